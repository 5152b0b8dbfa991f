"""The length score of LongBench-Write, by hand."""

from __future__ import annotations

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers.length_score import (
    benchmark_words,
    length_score,
    requested_length,
)


@pytest.mark.parametrize(
    ("asked", "written", "score"),
    [
        (1000, 1000, 100),
        # Half as much again too many: 1 - 0.5 / 3.
        (1000, 1500, 100 * 5 / 6),
        (1000, 2500, 50),
        (1000, 4000, 0),
        (1000, 9999, 0),
        # Half of it: 1 - 1 / 2. And 1000 / 800 = 1.25: 1 - 0.25 / 2.
        (1000, 500, 50),
        (1000, 800, 87.5),
        (900, 300, 0),
        (1000, 1, 0),
        (1000, 0, 0),
        (1, 1, 100),
        (5000, 3571, 100 * (1 - (5000 / 3571 - 1) / 2)),
    ],
)
def test_the_score(asked: int, written: int, score: float) -> None:
    assert length_score(asked, written) == pytest.approx(score)


def test_too_few_cost_more_than_too_many() -> None:
    assert length_score(1000, 2000) > length_score(1000, 500)


@pytest.mark.parametrize(("asked", "written"), [(0, 5), (-1, 5), (5, -1)])
def test_what_no_text_has_is_refused(asked: int, written: int) -> None:
    with pytest.raises(LengthwiseError, match="give 1 or more"):
        length_score(asked, written)


def test_a_reply_is_scored_by_its_words() -> None:
    assert requested_length("boat " * 50, ["100"]) == 0.5
    assert requested_length("boat " * 50, ["100", "50"]) == 1.0
    with pytest.raises(LengthwiseError, match="length 'a page': give a number of words"):
        requested_length("boat", ["a page"])


def test_words_of_the_benchmark() -> None:
    assert benchmark_words("Don't count 2024 twice") == 4
    assert benchmark_words("\u4f60\u597d, x1 \u043c\u0438\u0440") == 2
