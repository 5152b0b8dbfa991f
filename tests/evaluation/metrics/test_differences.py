"""Intervals of means and tests of differences."""

from __future__ import annotations

import random

import pytest

from lengthwise.evaluation.metrics.differences import by_question, difference_of, mean_of


def test_a_mean_of_hits_has_wilsons_interval() -> None:
    found = mean_of([1.0] * 10)
    assert (found.value, found.high, found.n) == (1.0, 1.0, 10)
    assert found.low == pytest.approx(0.72246, abs=1e-4)
    assert mean_of([0.0, 1.0]).low == pytest.approx(0.0945, abs=1e-4)


def test_scores_of_another_scale_are_no_hits() -> None:
    found = mean_of([0.0, 0.0, 1.0] * 4, share=False)
    assert 0 < found.low < found.value < found.high and found.value == pytest.approx(1 / 3)
    assert (mean_of([0.0] * 9, share=False).high, mean_of([0.0] * 9).high > 0) == (0.0, True)


def test_other_scores_have_the_bootstraps() -> None:
    draw = random.Random(0)
    values = [draw.random() for _ in range(200)]
    found = mean_of(values)
    # That of a normal mean: 1.96 times the error of 0.0204.
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.0204, rel=0.15)
    assert mean_of(values) == found
    assert (mean_of([0.5]).low, mean_of([0.5]).high) == (0.5, 0.5)


def test_a_difference_is_tested_pair_by_pair() -> None:
    # Signs of six equal differences: 2 of 64 ways are as far from 0.
    found = difference_of([1.0] * 6, [0.0] * 6)
    assert (found.value, found.p, found.sure) == (1.0, pytest.approx(2 / 64), True)
    assert not difference_of([1.0] * 5, [0.0] * 5).sure
    one = difference_of([1.0], [0.0])
    assert (one.value, one.low, one.high, one.p, one.n) == (1.0, 1.0, 1.0, 1.0, 1)
    assert difference_of([0.3, 0.7], [0.3, 0.7]).p == 1.0
    mixed = difference_of([1.0, 0.0, 1.0], [0.0, 1.0, 0.0])
    assert mixed.value == pytest.approx(1 / 3) and mixed.p == pytest.approx(1.0)
    with pytest.raises(ValueError, match="zip"):
        difference_of([1.0], [1.0, 0.0])


def test_samples_of_one_question_are_one_value_and_others_stay_as_they_are() -> None:
    assert by_question([("b", 1.0), ("a", 0.0), ("b", 0.0)]) == [0.5, 0.0]
    values = [0.1, 0.7, 0.3]
    assert by_question(enumerate(values)) == values
