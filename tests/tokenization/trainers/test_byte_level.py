"""Pieces of a text: numbers by direction, and letters of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.tokenization.trainers.byte_level import (
    ALPHABET,
    DIGITS,
    cutter,
    pattern,
    spelled,
    unspelled,
)
from lengthwise.tokenization.trainers.patterns import WORDS


def pieces(text: str, digits: str) -> list[str]:
    return [piece for piece, _ in cutter(digits).pre_tokenize_str(text)]


@pytest.mark.parametrize(
    ("digits", "cut"),
    [
        ("l2r", "123|456|7"), ("r2l", "1|234|567"), ("single", "1|2|3|4|5|6|7"),
        ("none", "1234567"),
    ],
)  # fmt: skip
def test_a_number_is_cut_as_said(digits: str, cut: str) -> None:
    assert "|".join(pieces("1234567", digits)) == cut
    assert "|".join(pieces("x 1234567.", digits)) == f"x| |{cut}|."


def test_adding_one_to_a_row_of_nines_moves_no_group_from_the_right() -> None:
    # The card's fixture: from the left every group of 10000000 is another.
    assert pieces("9999999", "l2r") == ["999", "999", "9"]
    assert pieces("10000000", "l2r") == ["100", "000", "00"]
    assert pieces("9999999", "r2l") == ["9", "999", "999"]
    assert pieces("10000000", "r2l") == ["10", "000", "000"]
    assert pieces("123456", "l2r") == pieces("123456", "r2l")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text("0123456789", min_size=1, max_size=500))
def test_from_the_right_each_group_but_the_first_has_three(number: str) -> None:
    cut = pieces(number, "r2l")
    assert "".join(cut) == number
    assert [len(each) for each in cut[1:]] == [3] * (len(cut) - 1)


def test_a_number_of_any_length_is_cut_in_no_time() -> None:
    cut = pieces("7" * 100_001, "r2l")
    assert sum(map(len, cut)) == 100_001 and len(cut[-1]) == 3
    assert sum(len(each) != 3 for each in cut) == 1


def test_only_numbers_depend_on_digits() -> None:
    assert pattern("l2r") == WORDS
    for digits in DIGITS:
        assert pieces("Don't stop,  me\n\nnow", digits) == pieces("Don't stop,  me\n\nnow", "l2r")


def test_letters_are_bytes() -> None:
    assert len(set(ALPHABET)) == 256
    text = "é日\x00 \U0001f600"
    assert unspelled(spelled(text)) == text.encode()
