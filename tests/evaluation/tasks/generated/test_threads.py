"""Needle Threading: threads that lead on, in their direction; marks; branches; lists of values."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from lengthwise.evaluation.tasks.benchmark import Sample
from lengthwise.evaluation.tasks.generated._shared.pairs import placed
from tests.evaluation.tasks.generated.generated_cases import one


def pairs_of(sample: Sample) -> dict[str, Any]:
    text = sample.context[sample.context.index("{") :]
    found = json.loads(text)
    assert len(found) == text.count("\n") + 1
    return found


def keys_of(sample: Sample) -> list[str]:
    return re.findall(r"Key: (\S+)", sample.question)


def followed(pairs: dict[str, Any], key: str) -> list[str]:
    """The keys of a thread and its last value, which is no key."""
    found = [key]
    while found[-1] in pairs:
        value = pairs[found[-1]]
        nexts = value if isinstance(value, list) else [value]
        on = [each for each in nexts if each in pairs]
        assert len(on) <= 1 and (on or len(nexts) == 1)
        found.append(on[0] if on else nexts[0])
    return found


@pytest.mark.parametrize("task", ["forward", "backward", "random"])
def test_a_thread_leads_to_its_value_in_its_direction(task: str) -> None:
    _, sample = one(f"threads(steps=7)/{task}", 2000)
    pairs = pairs_of(sample)
    (key,) = keys_of(sample)
    *thread, last = followed(pairs, key)
    assert (len(thread), last) == (7, sample.references[0])
    places = [list(pairs).index(each) for each in thread]
    if task == "random":
        assert places not in (sorted(places), sorted(places)[::-1])
    else:
        assert places == sorted(places, reverse=task == "backward")


def test_several_threads_are_apart() -> None:
    task, sample = one("threads(threads=4, steps=3)/multi_threads", 2000)
    pairs = pairs_of(sample)
    threads = [followed(pairs, key) for key in keys_of(sample)]
    assert [thread[-1] for thread in threads] == list(sample.references)
    assert len({each for thread in threads for each in thread}) == 4 * 4
    said = ", ".join(sample.references[:1] + sample.references[2:])
    assert task.score(said, sample) == {"thread_values": 0.25, "named": 0.75}


def test_of_the_branches_of_a_step_one_goes_on() -> None:
    task, sample = one("threads(steps=4, branches=5)/branched", 4000)
    pairs = pairs_of(sample)
    (key,) = keys_of(sample)
    thread = followed(pairs, key)
    assert (len(thread), thread[-1]) == (5, sample.references[0])
    assert [len(pairs[each]) for each in thread[:3]] == [5, 5, 5]
    others = [value for other, value in pairs.items() if other not in thread]
    assert any(isinstance(each, list) for each in others)
    assert any(isinstance(each, str) for each in others)
    assert task.score(thread[-2], sample) == {"thread_value": 0.0}


def test_marked_keys_are_those_of_the_values_asked_for() -> None:
    task, sample = one("threads(needles=6)/conditional", 2000)
    marked = [value for key, value in pairs_of(sample).items() if "*" in key]
    assert len(marked) == 6 and set(marked) == set(sample.references)
    assert task.score(str(marked[::-1]), sample)["thread_values"] == 1.0
    assert task.score(str(marked[:3]), sample)["thread_values"] == 0.5


@pytest.mark.parametrize("task", ["multi", "conditional"])
def test_clustered_needles_stand_side_by_side_at_their_depth(task: str) -> None:
    given = f"threads(needles=4, placement=clustered)/{task}"
    _, sample = one(given, 3000, depth=0.5)
    pairs = pairs_of(sample)
    values = list(pairs.values())
    places = sorted(values.index(each) for each in sample.references)
    assert places == list(range(places[0], places[0] + 4))
    assert sample.depth == pytest.approx(0.5, abs=0.02)
    assert places[0] == pytest.approx(len(pairs) / 2, abs=2)
    assert one(f"threads(needles=4)/{task}", 3000, depth=0.5)[1].depth is None


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("{}", 1.0), (" '{}'", 1.0), ('"{}".', 1.0), ("{} and more", 1.0), ("It is {}", 0.0),
        ("", 0.0),
    ],
)  # fmt: skip
def test_the_value_comes_first_in_a_reply(said: str, score: float) -> None:
    task, sample = one("threads/single", 600)
    value = sample.references[0]
    assert pairs_of(sample)[keys_of(sample)[0]] == value
    assert task.score(said.format(value), sample) == {"thread_value": score}


def test_needles_are_placed_next_to_their_depths_and_never_twice() -> None:
    assert placed("abcd", "X", [0.0]) == (list("Xabcd"), [0])
    assert placed("abcd", "X", [1.0]) == (list("abcdX"), [4])
    assert placed("abcd", "XYZ", [0.5, 0.5, 0.5]) == (list("abcXYZd"), [3, 4, 5])
    assert placed("ab", "XYZ", [1.0, 1.0, 0.0]) == (list("ZabXY"), [3, 4, 0])
    assert placed("", "XYZ", [0.9, 0.1, 0.5]) == (list("YZX"), [2, 0, 1])
