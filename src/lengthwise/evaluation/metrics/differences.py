"""How sure a mean of scores is, and whether one recipe's scores differ from another's."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence as Seq
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.intervals import wilson

# Samples drawn again for an interval, and signs drawn for a test.
DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its 95% interval. n: how many values."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference of pairs, its 95% interval, and p of a two-sided test by signs.

    p: how often signs drawn at random give a mean difference as large, where none is the truth.
    """

    value: float
    low: float
    high: float
    p: float
    n: int

    @property
    def sure(self) -> bool:
        """Whether p is below 5%."""
        return self.p < 0.05


def by_question(values: Iterable[tuple[Hashable, float]]) -> list[float]:
    """One value a question, in their order: the mean of its samples.

    Samples of one question are not independent of each other. Counted each, they would make
    intervals and p too small.

    Args:
        values: each behind what tells its question from others.
    """
    found: dict[Hashable, list[float]] = {}
    for question, value in values:
        found.setdefault(question, []).append(value)
    return [fmean(each) for each in found.values()]


def mean_of(values: Seq[float], share: bool = True) -> Mean:
    """The mean of scores.

    Where all are 0 or 1 the interval of a share is Wilson's, which has a width where all agree;
    else it is the bootstrap's.

    Args:
        values: at least one.
        share: whether they are from 0 to 1.
    """
    return _mean(tuple(values), share)


@lru_cache(maxsize=4096)
def _mean(values: tuple[float, ...], share: bool) -> Mean:
    found = fmean(values)
    if share and set(values) <= {0.0, 1.0}:
        return Mean(found, *wilson(round(sum(values)), len(values)), len(values))
    return Mean(found, *_bootstrap(values, found), len(values))


def difference_of(values: Seq[float], others: Seq[float]) -> Difference:
    """How much higher values are than others, pair by pair.

    Args:
        values: of one recipe.
        others: of another, of the same samples in the same order; at least one.
    """
    return _difference(tuple(a - b for a, b in zip(values, others, strict=True)))


@lru_cache(maxsize=4096)
def _difference(pairs: tuple[float, ...]) -> Difference:
    found = fmean(pairs)
    if not any(pairs):
        return Difference(0.0, 0.0, 0.0, 1.0, len(pairs))
    if len(pairs) == 1:
        # Either sign is as far from 0.
        return Difference(found, found, found, 1.0, 1)
    stats = _scipy_stats()
    tested = stats.permutation_test(
        (pairs,), _plain_mean, permutation_type="samples", n_resamples=DRAWS, vectorized=True,
        rng=0,
    )  # fmt: skip
    return Difference(found, *_bootstrap(pairs, found), float(tested.pvalue), len(pairs))


def _bootstrap(values: tuple[float, ...], mean: float) -> tuple[float, float]:
    """The percentile interval of a mean."""
    if len(set(values)) == 1:
        return mean, mean
    found = _scipy_stats().bootstrap(
        (values,), _plain_mean, n_resamples=DRAWS, method="percentile", vectorized=True, rng=0
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _plain_mean(values: Any, axis: int = -1) -> Any:
    return values.mean(axis=axis)


def _scipy_stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise LengthwiseError(
            "intervals of scores need scipy: pip install 'lengthwise[evaluation]'"
        ) from error
    return stats


__all__ = ["Difference", "Mean", "by_question", "difference_of", "mean_of"]
