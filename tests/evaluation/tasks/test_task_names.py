"""How tasks are named, and that samples are pure functions of what is wanted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.evaluation.tasks.benchmark import (
    BENCHMARKS,
    TEMPLATE,
    Sample,
    Wanted,
    difficulty_of,
    largest,
    tasks_of,
)

WANTED = Wanted(400, 2, 0, len, "A text. " * 50)


def sample(units: int) -> Sample:
    return Sample("ten signs." * units, "what?", ("x",), 16)


def test_a_sample_is_as_long_as_wanted_and_no_longer() -> None:
    found = largest(WANTED, sample)
    room = WANTED.length - TEMPLATE - 16 - len("\n\nwhat?\n")
    assert len(found.context) == room // 10 * 10
    assert WANTED.fits(found) and not WANTED.fits(sample(room // 10 + 1))
    exact = replace(WANTED, length=TEMPLATE + 16 + len("\n\nwhat?\n") + 10)
    assert largest(exact, sample) == sample(1)
    with pytest.raises(LengthwiseError, match="no room for the smallest sample"):
        largest(replace(exact, length=exact.length - 1), sample)


def test_draws_are_of_the_task_and_the_wishes() -> None:
    first, second = (draw.random() for draw in WANTED.draws("a"))
    assert first != second
    assert [draw.random() for draw in WANTED.draws("a")] == [first, second]
    for other in (replace(WANTED, seed=1), replace(WANTED, length=401), replace(WANTED, depth=0.5)):
        assert next(other.draws("a")).random() != first
    assert next(WANTED.draws("b")).random() != first


def test_tasks_are_named_with_options() -> None:
    (plain,), (more,) = tasks_of("needle"), tasks_of("needle(needles=3)")
    assert (plain.text, more.text) == ("needle", "needle(needles=3)")
    assert len(more.samples(WANTED)[0].references) == 3
    assert tasks_of("needle(needles=3)/needle") == [more]


@pytest.mark.parametrize("wrong, said", [
    ("nedle", "did you mean 'needle'"), ("needle(", "expected"), ("needle/x", "has no task 'x'"),
    ("needle(x=1)", "no option 'x'"), ("", "expected"), ("needle(needles=0)", "from 1 to 16"),
])  # fmt: skip
def test_what_is_no_task_is_said(wrong: str, said: str) -> None:
    with pytest.raises((LengthwiseError, RecipeError), match=said):
        tasks_of(wrong)


def test_all_that_is_registered_can_be_used() -> None:
    assert not [entry.error for entry in BENCHMARKS.entries() if entry.error]
    for kind in BENCHMARKS.usable().values():
        assert kind().tasks


def test_why_a_task_is_hard_is_known_by_its_text() -> None:
    for text in ("needle", "needle(needles=4)", "ruler/vt", "kv(questions=2)", "ada_leval/best_1k"):
        assert difficulty_of(text) is not None
    assert difficulty_of('longbench(data="/a/b (c)")/trec') == difficulty_of("longbench/trec")
    assert difficulty_of("arc_easy") is None and difficulty_of("ruler/nope") is None
