"""L-Eval's closed tasks: the card's small checks, and what only the released rules do."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.exams import (
    exam_answer,
    exam_letters,
    exam_number,
    exam_output,
    exam_verdict,
)


@pytest.mark.parametrize(("reply", "score"), [("BD", 1), ("B", 0.25), ("BC", 0), ("", 0)])
@pytest.mark.parametrize("compat", [False, True])
def test_some_right_letters_give_a_quarter(reply: str, score: float, compat: bool) -> None:
    assert exam_letters(reply, ["BD"], several=True, compat=compat) == score


def test_nothing_is_guessed_but_by_the_released_rules() -> None:
    assert exam_letters("unsure", ["A"]) == 0
    assert exam_letters("unsure", ["A"], compat=True) == 1
    assert exam_letters("A good reason is C.", ["C"]) == 1
    assert exam_letters("A good reason is C.", ["C"], compat=True) == 0


def test_letters_may_come_in_any_order() -> None:
    assert exam_letters("D and B", ["DB"], several=True) == 1
    assert exam_letters("I took B, but the answer is C", ["C"]) == 1
    assert exam_letters("", [""]) == 0


def test_signs_and_decimals_count_but_not_by_the_released_rules() -> None:
    assert exam_number("The answer is -3", ["3"]) == 0
    assert exam_number("The answer is -3", ["3"], compat=True) == 1
    assert exam_number("The answer is $1,250.50.", ["1250.5"]) == 1
    assert exam_number("so 18 apples\n\n99", ["The answer is 18."]) == 1
    assert exam_number("nothing", ["3"]) == 0


def test_a_decimal_loses_its_zero_by_the_released_rules() -> None:
    assert exam_output("prints 105", ["10.05"]) == 0
    assert exam_output("prints 105", ["10.05"], compat=True) == 1
    assert exam_output("it is 7.0", ["7"]) == 1
    assert exam_output("the final output is this list: [1, 2]", ["[1, 2]"]) == 1


def test_a_missing_verdict_is_wrong_and_not_an_error() -> None:
    assert exam_verdict("True [fact: False]", ["True [fact: False]"]) == 1
    assert exam_verdict("True", ["True [fact: False]"]) == 0.5
    assert exam_verdict("", ["True [fact: False]"]) == 0


def test_equal_as_numbers_or_contained() -> None:
    assert exam_answer("3.0", ["3"]) == 1
    assert exam_answer("The topic: Winter Sports", ["winter sports"]) == 1
    assert exam_answer("summer", ["winter sports"]) == 0
