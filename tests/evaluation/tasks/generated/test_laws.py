"""What holds for every generated task: the same bytes, the length, oracles, depth, facts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import Task
from tests.evaluation.tasks.generated.generated_cases import every_task, wanted

TASKS = every_task()
# Four of the thirteen paragraphs of the fixtures are no haystack.
OF_FILES = ("qa_1", "qa_2")
# Problems of one size: a length is only what has to hold them.
OF_ONE_SIZE = ("addition",)
each_task = pytest.mark.parametrize(
    "task", TASKS, ids=lambda task: f"{task.benchmark.name}/{task.name}"
)


@each_task
def test_the_same_wishes_are_the_same_samples_and_no_two_are_equal(task: Task) -> None:
    found = task.samples(wanted(1000, 4))
    assert len(found) == 4
    assert found == task.samples(wanted(1000, 4))
    assert found[:2] == task.samples(wanted(1000, 2))
    others = task.samples(wanted(1000, 4, seed=1))
    asked = {(each.context, each.question) for each in found}
    assert len(asked) == 4
    assert not asked & {(each.context, each.question) for each in others} or task.name in OF_FILES
    assert found != others


@each_task
@pytest.mark.parametrize("length", [300, 1000, 3000])
def test_a_length_is_kept_and_used(task: Task, length: int) -> None:
    wishes = wanted(length, 2)
    try:
        found = task.samples(wishes)
    except LengthwiseError as error:
        assert length == 300 and "has no room for the smallest sample" in str(error)
        return
    of_one_size = task.name in OF_FILES or task.benchmark.name in OF_ONE_SIZE
    for each in found:
        assert wishes.fits(each)
        assert wishes.size(each) >= 0.8 * length or of_one_size or length == 300


@each_task
def test_a_reply_that_names_the_references_scores_1_and_an_empty_one_0(task: Task) -> None:
    for each in task.samples(wanted(1500)):
        said = "\n".join(each.references)
        assert each.references and said.strip()
        scores = task.score(said, each)
        assert next(iter(scores.values())) == 1.0
        assert next(iter(task.score("", each).values())) == 0.0
        for score in (*scores.values(), *task.score("None of it, 12.", each).values()):
            assert 0.0 <= score <= 1.0


@each_task
def test_facts_are_values_of_json_and_scores_are_the_same_by_them(task: Task) -> None:
    for each in task.samples(wanted(1000)):
        read = replace(each, facts=json.loads(json.dumps(dict(each.facts))))
        said = "\n".join(each.references)
        assert dict(read.facts) == dict(each.facts)
        assert task.score(said, read) == task.score(said, each)


@each_task
def test_a_reply_fits_into_its_tokens(task: Task) -> None:
    wishes = wanted(1000)
    for each in task.samples(wishes):
        assert wishes.tokens("\n".join(each.references)) <= each.most


@each_task
@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 1.0])
def test_a_wanted_depth_is_the_depth_found(task: Task, depth: float) -> None:
    found = task.samples(wanted(3000, 2, depth=depth))
    for each in found:
        if each.depth is None or task.name in OF_FILES:
            continue
        assert each.depth == pytest.approx(depth, abs=0.06)
        place = each.context.rindex(each.references[0])
        assert place / len(each.context) == pytest.approx(depth, abs=0.08)


def test_tasks_that_know_depths() -> None:
    """Where one stands that can be asked for; the others are spread over their text."""
    known = {
        f"{task.benchmark.name}/{task.name}"
        for task in TASKS
        if task.samples(wanted(1500, 1, depth=0.5))[0].depth is not None
    }
    assert known == {
        "copy/copy", "infinite/kv_retrieval", "infinite/number_string", "kv/kv", "needle/needle",
        "passkey/passkey", "ruler/niah_multikey_1", "ruler/niah_multikey_2",
        "ruler/niah_multikey_3", "ruler/niah_multiquery", "ruler/niah_multivalue",
        "ruler/niah_single_1", "ruler/niah_single_2", "ruler/niah_single_3", "ruler/qa_1",
        "ruler/qa_2", "threads/single",
    }  # fmt: skip


def test_every_kind_of_difficulty_has_a_task() -> None:
    kinds = {(task.difficulty.diffusion, task.difficulty.scope) for task in TASKS}
    assert len(kinds) == 4
