"""The bound of a calibration: by the binomial law, and held in simulated calibrations."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.pac.holes import BUDGETS, nested
from lengthwise.evaluation.pac.threshold import allowed_errors, choose
from tests.evaluation.pac.test_holes import random_tree


@pytest.mark.parametrize("count", [11, 30, 100, 1000])
@pytest.mark.parametrize("epsilon", [0.2, 0.3])
@pytest.mark.parametrize("delta", [0.1, 0.2])
def test_most_errors_are_those_of_the_binomial_law(
    count: int, epsilon: float, delta: float
) -> None:
    found = allowed_errors(count, epsilon, delta)
    assert stats.binom.cdf(found, count, epsilon) <= delta + 1e-9
    assert stats.binom.cdf(found + 1, count, epsilon) > delta


def test_too_few_examples_are_refused_with_how_many_are_needed() -> None:
    with pytest.raises(LengthwiseError, match="give at least 29"):
        allowed_errors(10, 0.1, 0.05)
    assert allowed_errors(29, 0.1, 0.05) == 0
    for epsilon, delta in ((0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 1.5)):
        with pytest.raises(LengthwiseError, match="between 0 and 1"):
            allowed_errors(100, epsilon, delta)


def test_the_least_strict_threshold_within_the_errors() -> None:
    firsts = [0, 2, 2, 3, 5, 5]
    assert choose(firsts, 5, 1) == (1, 1)
    assert choose(firsts, 5, 3) == (2, 3)
    assert choose(firsts, 5, 6) == (4, 4)
    assert choose(firsts, 5, 0) == (-1, 0)


def test_more_errors_than_allowed_in_at_most_a_share_of_calibrations() -> None:
    """Nodes are wrong as often as their doubt says; the population's rate of errors is known."""
    epsilon, delta, calibrations = 0.2, 0.1, 500
    drawn, population = random.Random(0), []
    for seed in range(150):
        tree = random_tree(seed, 9)
        kept = nested(tree, 3)
        for _ in range(4):
            wrong = [drawn.random() > 2.0 ** (-cost) for cost in tree.costs]
            errs = [any(w and k for w, k in zip(wrong, each, strict=True)) for each in kept]
            population.append(errs.index(True) if any(errs) else len(BUDGETS))

    def violated(most: int) -> int:
        found = 0
        for _ in range(calibrations):
            chosen, _ = choose(drawn.choices(population, k=60), len(BUDGETS), most)
            rate = sum(first <= chosen for first in population) / len(population)
            found += rate > epsilon
        return found

    assert violated(allowed_errors(60, epsilon, delta)) <= delta * calibrations
    # As many errors as are allowed of those to come are too many among the examples.
    assert violated(int(60 * epsilon)) > delta * calibrations
