"""Aggregates, on the cards' figures."""

from __future__ import annotations

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers.aggregates import (
    effective_length,
    geometric_mean,
    judged_f1,
    pass_at_k,
    weighted_mean,
)

SCORES = (96, 94, 90, 84, 70, 50)
LENGTHS = (4096, 8192, 16384, 32768, 65536, 131072)


def test_the_geometric_mean_of_three() -> None:
    assert geometric_mean([40, 20, 30]) == pytest.approx(28.845, abs=1e-3)


def test_weights_rise_or_fall() -> None:
    assert weighted_mean(SCORES) == pytest.approx(73.33, abs=0.01)
    assert weighted_mean(SCORES, rising=False) == pytest.approx(88.0)


def test_the_effective_length_ends_at_the_first_score_below() -> None:
    shares = [each / 100 for each in SCORES]
    assert effective_length(dict(zip(LENGTHS, shares, strict=True))) == 16384
    assert effective_length({4096: 0.9, 8192: 0.5, 16384: 0.9}) == 4096
    assert effective_length({4096: 0.5}) is None


def test_f1_of_key_points() -> None:
    assert judged_f1(3 / 5, 4 / 8) == pytest.approx(0.5455, abs=1e-4)
    assert judged_f1(3 / 5, 4 / 8, fluency=0) == 0
    assert judged_f1(0, 0) == 0


@pytest.mark.parametrize(("k", "chance"), [(1, 0.3), (2, 0.5333), (5, 0.9167), (8, 1.0)])
def test_one_of_k_programs_passes(k: int, chance: float) -> None:
    assert pass_at_k(10, 3, k) == pytest.approx(chance, abs=1e-4)


def test_k_beyond_the_samples_is_refused() -> None:
    with pytest.raises(LengthwiseError, match="pass@11 of 10 samples, 3 right: k is 1 to 10"):
        pass_at_k(10, 3, 11)
