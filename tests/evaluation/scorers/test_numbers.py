"""Numbers in replies: the cards' small checks, and where a published rule is wrong."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.numbers import (
    all_ints,
    code_run,
    dialogue_name,
    first_int,
    kv_value,
    math_calc,
    math_find,
)


@pytest.mark.parametrize(
    ("reply", "score"),
    [("12345", 1), ("The key is 12345.", 1), ("12345 or 3", 1), ("key: 3 or 12345", 0), ("", 0)],
)
def test_the_first_run_of_digits_is_the_passkey(reply: str, score: int) -> None:
    assert first_int(reply, ["12345"]) == score
    assert first_int(reply, ["12345"], as_text=False) == score


def test_zeros_in_front_count_in_texts_alone() -> None:
    assert first_int("0012", ["12"]) == 0
    assert first_int("0012", ["12"], as_text=False) == 1
    assert first_int("none", ["0"], as_text=False) == 1


def test_half_of_the_numbers_are_right() -> None:
    assert all_ints("8 unique passages out of 12", ["8"]) == 0.5
    assert all_ints("Paragraph 3", ["Paragraph 3"]) == 1
    assert all_ints("none", ["8"]) == 0


def test_leading_results_count() -> None:
    assert math_calc("1, 2, 5, 4", [1, 2, 3, 4]) == 0.5
    assert math_calc("9, 1, 2", [1, 2], skip=1) == 1
    assert math_calc("1", [1, 2, 3, 4]) == 0.25


def test_signs_are_read_but_not_by_the_released_code() -> None:
    assert math_calc("-3, 5", [-3, 5]) == 1
    assert math_calc("-3, 5", [-3, 5], compat=True) == 0
    assert math_calc("7-3", [7, 3]) == 1
    assert math_find("it is -3", [3]) == 0
    assert math_find("it is -3", ["-3"]) == 1
    assert math_find("it is -3", [3], compat=True) == 1
    assert math_find("3.0", [3]) == 1


def test_a_reply_of_endless_digits_is_wrong_and_not_an_error() -> None:
    endless = "7" * 6000
    assert first_int(endless, ["7"], as_text=False) == 0
    assert math_calc(endless, [7]) == 0
    assert math_find(endless, [7]) == 0
    assert code_run(endless, [7]) == 0


def test_values_names_and_results_are_words() -> None:
    assert kv_value('{"a": "9f-2c"}', ["9f-2c"]) == 1
    assert kv_value("x9f-2c", ["9f-2c"]) == 0
    assert dialogue_name("It was Anna Lee!", ["ANNA LEE"]) == 1
    assert dialogue_name("It was Anna Lee!", ["ANNA LEE"], compat=True) == 0
    assert dialogue_name("Annabel", ["Anna"]) == 0
    assert code_run("The result is `-7`.", ["-7"]) == 1
    assert code_run("", [0]) == 0
