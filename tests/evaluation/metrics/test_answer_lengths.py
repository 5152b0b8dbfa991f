"""Precise and flexible match, at the edges of the paper's bands."""

from __future__ import annotations

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.answer_lengths import LengthMatch, length_matches


def said(words: int) -> str:
    return " ".join(["word"] * words)


@pytest.mark.parametrize(
    ("target", "words", "precise", "flexible"),
    [
        ("10", 1, 1, 1), ("10", 20, 1, 1), ("10", 21, 0, 0), ("10", 0, 0, 0),
        ("30", 20, 0, 0), ("30", 21, 1, 1), ("30", 40, 1, 1), ("30", 41, 0, 0),
        ("50", 40, 0, 0), ("50", 60, 1, 1), ("80", 60, 0, 0), ("80", 61, 0, 1),
        ("80", 70, 0, 1), ("80", 71, 1, 1), ("80", 90, 1, 1), ("80", 91, 0, 1),
        ("80", 100, 0, 1), ("80", 101, 0, 0), ("150", 130, 0, 1), ("150", 170, 1, 1),
        ("300", 281, 1, 1), ("500", 550, 1, 1), ("700", 770, 1, 1), ("700", 800, 0, 1),
        (">800", 800, 0, 0), (">800", 801, 1, 1), (">800", 5000, 1, 1),
    ],
)  # fmt: skip
def test_bands_leave_out_their_lower_end(
    target: str, words: int, precise: int, flexible: int
) -> None:
    found = length_matches([(target, said(words))])[0]
    assert (found.precise, found.flexible) == (precise, flexible)


def test_shares_are_of_each_class_and_of_all() -> None:
    answers = [("80", said(65)), ("80", said(80)), ("10", said(30)), ("10", said(10))]
    assert length_matches(answers) == [
        LengthMatch("80", 2, 0.5, 1.0, 72.5), LengthMatch("10", 2, 0.5, 0.5, 20.0),
        LengthMatch("all", 4, 0.5, 0.75, 46.25),
    ]  # fmt: skip
    assert length_matches([]) == []


def test_words_are_runs_of_letters_and_digits() -> None:
    assert length_matches([("10", "It's 3.5, isn't it?")])[0].words == 7


def test_a_length_that_is_no_class_is_refused() -> None:
    with pytest.raises(LengthwiseError, match="length '20': allowed are 10, 30, 50"):
        length_matches([("20", "a")])
