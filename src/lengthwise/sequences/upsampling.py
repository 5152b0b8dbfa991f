"""Domain upsampling: small, valuable sets get a larger share of the last stretch of training.

Blakeney et al., "Does your data spark joy? Performance gains from domain upsampling at the end of
training", 2024, arXiv:2406.03476.

The authors keep the base mixture for most of a run. They raise the weight of code, mathematics and
reference text in its last 10 to 20 percent (best of 5 to 30), learning rate unchanged.

Where ours differs: they mix documents anew. Here rows are replaced, so that the lengths stay those
of the curriculum. In place of a part of its rows, a step of that stretch reads rows of the same
length of the domains' own buckets. The weights are given by the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from lengthwise._utils.papers import Paper
from lengthwise.sequences.curricula import Curriculum, Draw, shuffled
from lengthwise.sequences.errors import SequenceError

PAPER = Paper(
    "Does your data spark joy? Performance gains from domain upsampling at the end of training",
    "Blakeney et al.",
    2024,
    arxiv="2406.03476",
)


@dataclass(frozen=True)
class Upsampled:
    """A curriculum of `epochs` epochs whose last `share` of steps reads from `domains` too.

    domains: rows of each length, by domain. weights: share of the stretch's tokens that comes from
    each domain; the rest stays base. A domain without rows of some length makes up for it in the
    steps of the lengths it has. Raises SequenceError where that cannot be done.
    """

    base: Curriculum
    epochs: int
    domains: Mapping[str, Mapping[int, int]]
    weights: Mapping[str, float]
    share: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.epochs < 1:
            raise SequenceError(
                f"share={self.share} of {self.epochs} epochs cannot be upsampled: the share lies "
                "in (0, 1] (0.1 to 0.2 is usual), epochs are at least 1"
            )
        unknown = sorted(set(self.weights) - set(self.domains))
        if unknown or not self.weights or min(self.weights.values()) < 0:
            wrong = f"no domain {unknown[0]!r}" if unknown else "no weight of at least 0"
            raise SequenceError(f"{wrong}; weights are for: {', '.join(self.domains) or 'none'}")
        length, shares = min(self._shares.items(), key=lambda each: each[1][0])
        if shares[0] < -1e-9:
            taken = 1 - shares[0]
            raise SequenceError(
                f"the weights take {taken:.0%} of the rows of {length:,} tokens, as domains "
                f"lack rows of other lengths; divide the weights by {ceil(taken * 100) / 100:.2f} "
                "at least"
            )

    @property
    def first(self) -> int:
        """The first upsampled step, counted over all epochs."""
        steps = self.epochs * self.base.steps_per_epoch
        return steps - max(1, round(self.share * steps))

    def draw(self, epoch: int, step: int, rank: int = 0, world: int = 1) -> Draw:
        """What `rank` of `world` reads in a step of one epoch."""
        if not 0 <= epoch < self.epochs:
            raise SequenceError(f"there is no epoch {epoch}: the run has {self.epochs}")
        if epoch * self.base.steps_per_epoch + step < self.first:
            return self.base.draw(epoch, step, rank, world)
        length, earlier = self.base.occurrence(epoch, step)
        self.base.check_ranks(length, rank, world)
        place = epoch * self.base.batches[length] + earlier - self._before[length]
        domains = self._domain_rows(length, place)
        rows = self.base.rows(epoch, step)
        rows = rows[: len(rows) - sum(map(len, domains.values()))]
        # Ranks deal the rows of base and domains out of one pack, so that each gets as many.
        parts, start = [], 0
        for each in (rows, *domains.values()):
            parts.append(each[(rank - start) % world :: world])
            start += len(each)
        return Draw(step, length, parts[0], dict(zip(domains, parts[1:], strict=True)))

    def passes(self, domain: str) -> dict[int, float]:
        """How often the stretch reads a domain's rows of each length: repeats are to be watched."""
        index = list(self.weights).index(domain) + 1
        found = {}
        for length, steps in self._steps.items():
            size = self.domains[domain].get(length, 0)
            if size:
                rows = steps * (self.base.tokens_per_step // length)
                found[length] = _dealt(self._shares[length], rows)[index] / size
        return found

    def _domain_rows(self, length: int, place: int) -> dict[str, NDArray[np.int64]]:
        count = self.base.tokens_per_step // length
        start = _dealt(self._shares[length], place * count)
        end = _dealt(self._shares[length], (place + 1) * count)
        found = {}
        for index, name in enumerate(self.weights, 1):
            places = np.arange(start[index], end[index], dtype=np.int64)
            if len(places):
                size = self.domains[name][length]
                found[name] = shuffled(places, size, self.base.seed, "domain", name, length)
        return found

    @cached_property
    def _before(self) -> dict[int, int]:
        """Steps of each length before the stretch."""
        epoch, step = divmod(self.first, self.base.steps_per_epoch)
        lengths = self.base.lengths(epoch)[:step]
        return {
            n: epoch * each + int((lengths == n).sum()) for n, each in self.base.batches.items()
        }

    @cached_property
    def _steps(self) -> dict[int, int]:
        """Steps of each length within the stretch."""
        return {n: self.epochs * k - self._before[n] for n, k in self.base.batches.items()}

    @cached_property
    def _shares(self) -> dict[int, tuple[float, ...]]:
        """For each length, the share of its rows that base gets, then that of each domain."""
        total = sum(self._steps.values())
        shares: dict[int, list[float]] = {n: [] for n in self._steps}
        for name, weight in self.weights.items():
            has = {n for n in self._steps if self.domains[name].get(n, 0)}
            covered = sum(self._steps[n] for n in has)
            if weight and not covered:
                raise SequenceError(
                    f"domain {name!r} has no rows of the lengths drawn in the last "
                    f"{total:,} steps: {', '.join(map(str, self._steps))}"
                )
            for n, each in shares.items():
                each.append(weight * total / covered if n in has and weight else 0.0)
        return {n: (1.0 - sum(each), *each) for n, each in shares.items()}


def _dealt(shares: tuple[float, ...], rows: int) -> list[int]:
    """How the first `rows` rows are divided by shares that add up to 1.

    Each share takes its part of what the ones before it left over. No count ever falls as rows
    grow, which rounding every share on its own would not give.
    """
    counts, left, rest = [], rows, 1.0
    for share in shares[:-1]:
        # The small term keeps a whole number from being rounded down.
        part = min(1.0, max(0.0, share / rest)) if rest > 1e-9 else 0.0
        counts.append(min(left, floor(left * part + 1e-6)))
        left -= counts[-1]
        rest -= share
    return [*counts, left]
