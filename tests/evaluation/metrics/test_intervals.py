"""How sure a figure is: intervals of shares, errors of means, bands of curves."""

from __future__ import annotations

import math

import pytest

from lengthwise.evaluation.metrics.intervals import curve, standard_error, wilson


def test_an_infinite_loss_has_no_band() -> None:
    (one,) = curve({1: math.inf}, {1: 2.0}, 1 + 1)[:1]
    assert one["mean"] == math.inf and one["error"] is None and one["over_full"] is None


@pytest.mark.parametrize(("hits", "n", "low", "high"),
                         [(90, 100, 0.8256, 0.9448), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0),
                          (461, 512, 0.8714, 0.9234)])  # fmt: skip
def test_wilsons_interval(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=1e-4)


def test_the_error_of_a_mean() -> None:
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)
    assert standard_error([1.0]) is None and standard_error([1.0, math.inf]) is None
