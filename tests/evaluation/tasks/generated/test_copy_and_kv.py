"""Copying a passage by its first words, and keys whose questions share one haystack."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import tasks_of
from tests.evaluation.tasks.generated.generated_cases import haystack, one, wanted


def test_a_passage_follows_its_beginning_which_stands_once() -> None:
    (task,) = tasks_of("copy(words=12, given=4)")
    for sample in task.samples(wanted(800, 10)):
        cue, right = sample.begin, sample.references[0]
        assert (len(cue.split()), len(right.split())) == (4, 12)
        assert sample.context.count(cue) == 1 and cue in sample.question
        assert f"{cue} {right}" in sample.context


def test_a_short_text_is_read_round_and_round() -> None:
    wishes = replace(wanted(3000), haystack=haystack()[:3000])
    for sample in tasks_of("copy")[0].samples(wishes):
        assert sample.context.count(sample.begin) > 1
        again = sample.context.count(f"{sample.begin} {sample.references[0]}")
        assert sample.context.count(sample.begin) == again


def test_words_count_to_the_first_wrong_one_and_in_their_place() -> None:
    task, sample = one("copy(words=4)", 600)
    given = replace(sample, references=("one two three four",))
    assert task.score(" one two\nx four", given) == {"prefix": 0.5, "in_place": 0.75}
    assert task.score("one two three four five", given) == {"prefix": 1.0, "in_place": 1.0}


def test_a_text_without_a_passage_of_its_own_is_refused() -> None:
    draw = random.Random(0)
    said = [" ".join(draw.choices(("yes", "never"), k=5)).capitalize() for _ in range(400)]
    wishes = replace(wanted(600), haystack=". ".join(said))
    with pytest.raises(LengthwiseError, match="wherever 2 words of the text stand again, others"):
        tasks_of("copy(given=2)")[0].samples(wishes)
    with pytest.raises(LengthwiseError, match="the text in which things are hidden is empty"):
        tasks_of("copy")[0].samples(replace(wishes, haystack=""))


@pytest.mark.parametrize(("questions", "samples", "contexts"), [(5, 12, 3), (1, 4, 4), (8, 4, 1)])
def test_runs_of_questions_share_one_context_to_the_byte(
    questions: int, samples: int, contexts: int
) -> None:
    (task,) = tasks_of(f"kv(questions={questions})")
    found = task.samples(wanted(1500, samples))
    assert len(found) == samples
    assert [each.context for each in found] == [
        found[n - n % questions].context for n in range(samples)
    ]
    assert len({each.context for each in found}) == contexts
    for sample in found:
        pairs = json.loads(sample.context[sample.context.index("{") :])
        key = re.search(r"Key: (\S+)", sample.question)
        assert key and pairs[key[1]] == sample.references[0]
        assert list(pairs)[sample.facts["place"]] == key[1]
        assert task.score(f"It is {sample.references[0]}.", sample) == {"contains_any": 1.0}


def test_questions_of_a_wanted_depth_stand_around_it() -> None:
    (task,) = tasks_of("kv(questions=3)")
    for sample in task.samples(wanted(3000, 3, depth=0.5)):
        middle = (sample.facts["pairs"] - 1) / 2
        assert abs(sample.facts["place"] - middle) <= 2
