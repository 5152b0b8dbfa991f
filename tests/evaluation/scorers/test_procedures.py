"""LongProc's procedures: right ones score 1, one line less scores all but one."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.procedures import (
    NOTHING,
    ProcedureScores,
    beliefs,
    program,
    read_plan,
    route,
    travel,
)

GOLD = "a\nb\nc\nd"
PLAN = "Day 1-3: Rome.\nDay 3: Fly from Rome to Oslo.\nDay 3-7: Oslo."
SEARCH = "<Solving Procedure>\nTry Oslo.\nNo flight.\nTry Rome.\n</Solving Procedure>"


def tags(lines: str, tag: str = "Route") -> str:
    return f"so\n<{tag}>\n{lines}\n</{tag}>\n"


def test_the_index_of_the_first_wrong_line_counts() -> None:
    assert route(tags(GOLD), GOLD) == ProcedureScores(1, 1, True)
    assert route(tags("a\nb\nx\nd"), GOLD) == ProcedureScores(0, 0.5, True)
    assert route(tags("a\nb\nx\nd"), GOLD, compat=True).partial == 0.75
    assert route(tags("a\nb\nc"), GOLD).partial == 0.75
    assert route(tags("a\nb\nc"), GOLD, compat=True).partial == 0.75
    assert route(GOLD, GOLD) == NOTHING


def test_small_words_of_beliefs_do_not_count() -> None:
    gold = "- Step 1: Ben knows the ball’s place\n- Ann is in the hall"
    assert beliefs("- 1 ben balls place\nmore\n- ann hall", gold) == ProcedureScores(1, 1, True)
    assert beliefs("- step 1 Ben: balls place", gold).partial == 0.5
    assert beliefs("nothing", gold) == ProcedureScores(0, 0, False)


def test_plans_are_read_from_flight_to_flight() -> None:
    assert read_plan(PLAN) == [("Rome", 3), ("Oslo", 5)]
    assert read_plan("Rome, then Oslo") == []


def test_a_plan_or_else_its_search_is_scored() -> None:
    right = f"{SEARCH}\n{tags(PLAN, 'Plan')}"
    options = {"cities": ["Rome", "Oslo"], "days": [3, 5]}
    assert travel(right, right, **options) == ProcedureScores(1, 1, True)  # type: ignore[arg-type]
    broken = SEARCH.replace("No flight", "A flight")
    found = travel(broken, SEARCH, **options)  # type: ignore[arg-type]
    assert found == ProcedureScores(0, 2 / 5, False)
    whole = travel(SEARCH, SEARCH, **options)  # type: ignore[arg-type]
    assert whole.partial == 1
    short = travel(SEARCH, SEARCH, compat=True, **options)  # type: ignore[arg-type]
    assert short.partial == 4 / 5


@pytest.mark.parametrize(
    ("printed", "accuracy", "partial"),
    [(["1\n", "2\n3\n"], 1, 1), (["1\n", "2\n3"], 0, 0.5), (["1\n", None], 0, 0.5), ([], 0, 0)],
)
def test_output_is_right_to_the_letter(
    printed: list[str | None], accuracy: float, partial: float
) -> None:
    expected = [["1"], ["2", "3"]]
    assert program(printed, expected) == ProcedureScores(accuracy, partial, bool(printed))


def test_ten_tests_count() -> None:
    assert program(["1\n"] * 10, [["1"]] * 12).accuracy == 1
