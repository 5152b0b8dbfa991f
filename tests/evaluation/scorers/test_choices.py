"""Choices that replies name."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.choices import (
    best_answer,
    code_debug,
    free_letters,
    infinite_choice,
    letter_choice,
    option_number,
)


@pytest.mark.parametrize(
    ("reply", "letters"),
    [
        ("B", "B"), ("(B) or D.", "BD"), ("A good one", ""), ("A and C", "AC"), ("Based on", ""),
        ("A", "A"), ("A: yes", "A"), ("B's house", ""), ("**C**", "C"), ("", ""),
    ],
)  # fmt: skip
def test_letters_stand_alone(reply: str, letters: str) -> None:
    assert free_letters(reply) == list(letters)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("C", 1), ("C. at sea", 1), ("A good reason is C.", 1), ("Not B; the answer is C", 1),
        ("Answer: C", 1), ("Based on the text", 0), ("unsure", 0), ("B", 0), ("", 0),
    ],
)  # fmt: skip
def test_a_letter_is_chosen(reply: str, score: int) -> None:
    assert letter_choice(reply, ["C"]) == score


def test_more_letters_may_be_choices() -> None:
    assert letter_choice("F", ["F"], letters="ABCDEF") == 1


def test_a_word_that_begins_with_a_letter_is_no_choice() -> None:
    right = ["C", "at sea"]
    assert infinite_choice("Based on this, C", right) == 1
    assert infinite_choice("Based on this, C", right, compat=True) == 0
    assert infinite_choice("At sea, I think", right) == 1
    assert infinite_choice("The answer is at sea", right) == 1
    assert infinite_choice("they stayed at sea", right) == 0


def test_letter_or_function_is_found() -> None:
    right = ["parse_row", "B"]
    assert code_debug("B. parse_row", right) == 1
    assert code_debug("The answer is: `parse_row`", right) == 1
    assert code_debug("It may be parse_row", right) == 0


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("option 3", 1), ("3", 1), ("Option 3: kinase", 1), ("the answer is option 3", 1),
        ("of 6 I take option 3", 1), ("option 13", 0), ("kinase", 0),
    ],
)  # fmt: skip
def test_options_are_numbers(reply: str, score: int) -> None:
    assert option_number(reply, ["option 3"]) == score


def test_the_highest_designation_counts() -> None:
    assert best_answer("A1 or A12", ["A12"], choices=12) == 1
    assert best_answer("A1 or A12", ["A1"], choices=12) == 0
    assert best_answer("3", ["A3"], choices=5) == 1
    assert best_answer("none", ["A3"], choices=5) == 0
