"""Which rows every training step reads: curricula over lengths with a constant number of tokens.

Pouransari et al., "Dataset Decomposition: Faster LLM Training with Variable Sequence Length
Curriculum", NeurIPS 2024, arXiv:2405.13226.

Sequences are kept in buckets by length, and each step draws one bucket. A curriculum is not a list
of lengths but of odds. Buckets are drawn at their odds without replacement, so the short ones run
dry first, and a cycle ends long. A cycle holds an equal part of every bucket.

Drawing i with probability odds_i / sum(odds of what is not yet empty) equals the order of events of
independent Poisson processes. Their rates are odds_i, and each stops after its last row. So a cycle
is one sort of cumulated exponential gaps and no loop, and every rank computes the same order from
the seed alone. Rows come from a shuffle that can be entered anywhere. Hence (epoch, step, seed) is
all that a resumed run needs to know.

The odds of a name are multiplied by the batches that a bucket has in a cycle. So does the authors'
helper, unlike the paper's text. They are then rates of depletion, whatever the buckets' sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import lcm

import numpy as np
from numpy.typing import NDArray

from lengthwise._utils.counter_rng import Bijection, key, uniforms
from lengthwise._utils.papers import Paper
from lengthwise._utils.suggestions import hint
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.odds import ODDS, Odds

PAPER = Paper(
    "Dataset Decomposition: Faster LLM Training with Variable Sequence Length Curriculum",
    "Pouransari et al.",
    2024,
    arxiv="2405.13226",
    venue="NeurIPS",
    code="https://github.com/apple/ml-dataset-decomposition",
)
NAMES = tuple(ODDS)
# The authors read a bucket once and up to four times more.
MOST_PASSES = 5
MOST_STEPS = 1 << 24
"""Of an epoch: each takes some bytes of memory. Runs of a trillion tokens have fewer."""
MOST_CYCLES = 1 << 16
MOST_LENGTHS = 64
MOST_TOKENS = 1 << 60


@dataclass(frozen=True)
class Draw:
    """What one rank reads in one step.

    step: within the epoch. length: tokens of every row. rows: row numbers inside the bucket of this
    length. upsampled: further rows of the same length, by domain (`upsampling`); else empty.
    """

    step: int
    length: int
    rows: NDArray[np.int64]
    upsampled: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Curriculum:
    """A schedule of buckets and rows for every step of every epoch.

    buckets: rows of each length; empty ones, and those with fewer rows than a step reads, are left
    out (`left_out` counts them). tokens_per_step: on all ranks together, a multiple of every
    length. name: one of NAMES. cycles: times that an epoch goes from short to long. mixture: tokens
    of each length to read in an epoch (default: each row once); beyond what there is, rows repeat.
    Raises SequenceError where the numbers do not fit.
    """

    buckets: Mapping[int, int]
    tokens_per_step: int
    name: str = "grow-p2"
    cycles: int = 1
    seed: int = 0
    mixture: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        _odds(self.name)
        _check_buckets(self.buckets, self.tokens_per_step, self.mixture, self.cycles)
        if not self.batches:
            raise SequenceError(
                f"no bucket has the rows of one step of {self.tokens_per_step:,} tokens; the "
                f"largest has {max(n * k for n, k in self.buckets.items()):,} tokens"
                f"{self._instead()}"
            )
        if self.steps_per_epoch > MOST_STEPS:
            raise SequenceError(
                f"an epoch has {self.steps_per_epoch:,} steps of {self.tokens_per_step:,} tokens, "
                f"and {MOST_STEPS:,} are planned at most{self._instead()}"
            )
        most = min(self.steps_per_epoch, MOST_CYCLES)
        if not 1 <= self.cycles <= most:
            raise SequenceError(
                f"cycles={self.cycles} is not possible: an epoch has {self.steps_per_epoch:,} "
                f"steps, and a cycle needs one at least; give 1 to {most}"
            )

    @cached_property
    def batches(self) -> dict[int, int]:
        """Steps an epoch spends on each length, short to long; lengths without any are absent."""
        tokens = self.mixture or {n: n * rows for n, rows in self.buckets.items()}
        found = {n: tokens.get(n, 0) // self.tokens_per_step for n in sorted(self.buckets)}
        return {n: steps for n, steps in found.items() if steps}

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the same for every epoch."""
        return sum(self.batches.values())

    def shortened(self, steps: int) -> Curriculum:
        """The curriculum of a run of `steps`, if they are fewer than an epoch: whole cycles of it.

        Every length keeps its share of the tokens, to within a step, so the run does not end where
        the first cycle has only shown the short rows.
        """
        if steps >= self.steps_per_epoch:
            return self
        lengths, batches = list(self.batches), np.array(list(self.batches.values()))
        ends = np.rint(np.cumsum(batches) * (steps / batches.sum())).astype(int)
        shares = np.diff(ends, prepend=0) * self.tokens_per_step
        return replace(self, mixture=dict(zip(lengths, shares.tolist(), strict=True)))

    @property
    def left_out(self) -> dict[int, int]:
        """Rows of each length that an epoch does not read; other rows in every epoch."""
        return {
            n: max(0, rows - self.batches.get(n, 0) * (self.tokens_per_step // n))
            for n, rows in sorted(self.buckets.items())
        }

    @property
    def odds(self) -> dict[int, float]:
        """Odds of each length at the start of a cycle."""
        count, rule = len(self.batches), _odds(self.name)
        return {n: rule(i, count) * steps for i, (n, steps) in enumerate(self.batches.items())}

    @property
    def mean_length(self) -> float:
        """Mean tokens of a row of the epoch."""
        return self.steps_per_epoch / sum(steps / n for n, steps in self.batches.items())

    @property
    def mean_context(self) -> float:
        """Mean number of earlier tokens that a token of the epoch can see."""
        seen = sum(steps * (n - 1) / 2 for n, steps in self.batches.items())
        return seen / self.steps_per_epoch

    def lengths(self, epoch: int) -> NDArray[np.int64]:
        """The length drawn at every step of an epoch: [steps_per_epoch]."""
        return np.array(list(self.batches), np.int64)[self._order(epoch)[0]]

    def occurrence(self, epoch: int, step: int) -> tuple[int, int]:
        """(length, how many earlier steps of this epoch had it) of a step."""
        if not 0 <= step < self.steps_per_epoch or epoch < 0:
            raise SequenceError(
                f"there is no step {step} in epoch {epoch}: epochs count from 0 and have "
                f"{self.steps_per_epoch:,} steps"
            )
        order, earlier = self._order(epoch)
        return list(self.batches)[order[step]], int(earlier[step])

    def rows(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Rows that all ranks together read in a step: [tokens_per_step // length]."""
        length, earlier = self.occurrence(epoch, step)
        count = self.tokens_per_step // length
        places = np.arange(earlier * count, (earlier + 1) * count, dtype=np.int64)
        return shuffled(places, self.buckets[length], self.seed, "rows", epoch, length)

    def draw(self, epoch: int, step: int, rank: int = 0, world: int = 1) -> Draw:
        """What `rank` of `world` reads in a step. Every rank has the same length and row count."""
        length, _ = self.occurrence(epoch, step)
        self.check_ranks(length, rank, world)
        return Draw(step, length, self.rows(epoch, step)[rank::world])

    def draws(self, epoch: int, first: int = 0, rank: int = 0, world: int = 1) -> Iterator[Draw]:
        """The draws of an epoch from step `first` on."""
        for step in range(first, self.steps_per_epoch):
            yield self.draw(epoch, step, rank, world)

    def check_ranks(self, length: int, rank: int, world: int) -> None:
        """Raises SequenceError unless the rows of a step of this length divide among the ranks."""
        if not 0 <= rank < world:
            raise SequenceError(f"there is no rank {rank} among {world}: ranks count from 0")
        rows = self.tokens_per_step // length
        if rows % world:
            raise SequenceError(
                f"{rows} rows of {length:,} tokens do not divide among {world} ranks"
                f"{self._instead(world)}"
            )

    def _instead(self, world: int = 1) -> str:
        return _instead(self.buckets, self.tokens_per_step, self.cycles, world)

    def _order(self, epoch: int) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        return _order(
            tuple(self.batches.values()), tuple(self.odds.values()), self.cycles,
            key(self.seed, "lengths", epoch),
        )  # fmt: skip


def _odds(name: str) -> Odds:
    """The odds of a name; raises SequenceError where there are none, or they cannot be used."""
    found = ODDS.get(name)
    if found is None:
        raise SequenceError(f"there is no curriculum {name!r}{hint(name, ODDS)}")
    return found


def shuffled(
    places: NDArray[np.int64], size: int, seed: int, *purpose: str | int
) -> NDArray[np.int64]:
    """Rows at `places` of an endless reading of `size` rows, shuffled anew in every pass.

    seed and purpose: what the shuffle depends on.
    """
    rows = np.empty_like(places)
    for each in np.unique(places // size):
        chosen = places // size == each
        rows[chosen] = Bijection(key(seed, *purpose, int(each)), size)(places[chosen] % size)
    return rows


def _instead(buckets: Mapping[int, int], tokens: int, cycles: int, world: int = 1) -> str:
    """The tokens a step, near those given, with which this is a curriculum for `world` ranks."""
    unit = lcm(*buckets) * world
    sizes = [n * rows for n, rows in buckets.items()]

    def most_units(steps: int) -> int:
        """The most units with which at least so many steps are left."""
        low, high = 0, max(sizes) // unit + 1
        while high - low > 1:
            middle = (low + high) // 2
            enough = sum(size // (middle * unit) for size in sizes) >= steps
            low, high = (middle, high) if enough else (low, middle)
        return low

    low, high = most_units(MOST_STEPS + 1) + 1, most_units(max(1, min(cycles, MOST_CYCLES)))
    if low > high:
        return (
            f": no number does, since it has to be a multiple of {unit:,} and leave {cycles:,} "
            "steps; leave out lengths, or give more rows"
        )
    nearest = min(high, max(low, (2 * tokens + unit) // (2 * unit)))
    return f"; the nearest tokens_per_step that does: {nearest * unit}"


def _check_buckets(
    buckets: Mapping[int, int], tokens_per_step: int, mixture: Mapping[int, int] | None, cycles: int
) -> None:
    if not buckets or min(buckets) < 1 or min(buckets.values()) < 0:
        raise SequenceError("buckets must name lengths of at least 1 and rows of at least 0")
    largest = max(max(n, n * rows) for n, rows in buckets.items())
    if len(buckets) > MOST_LENGTHS or largest > MOST_TOKENS:
        raise SequenceError(
            f"buckets may name {MOST_LENGTHS} lengths at most, and {MOST_TOKENS:,} tokens of each"
        )
    for length in sorted(buckets):
        if tokens_per_step < length or tokens_per_step % length:
            raise SequenceError(
                f"{tokens_per_step:,} tokens a step are no whole rows of {length:,} tokens"
                f"{_instead(buckets, tokens_per_step, cycles)}"
            )
    for length, tokens in (mixture or {}).items():
        if tokens > MOST_PASSES * length * buckets.get(length, 0):
            raise SequenceError(
                f"the mixture wants {tokens:,} tokens of length {length:,}, and there are "
                f"{length * buckets.get(length, 0):,}: at most {MOST_PASSES} passes are read"
            )


@lru_cache(maxsize=4)
def _order(
    batches: tuple[int, ...], odds: tuple[float, ...], cycles: int, seed: int
) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """([steps] bucket numbers, [steps] earlier steps with that bucket) of one epoch."""
    parts = []
    for cycle in range(cycles):
        times, which = [], []
        for i, count in enumerate(batches):
            events = (cycle + 1) * count // cycles - cycle * count // cycles
            gaps = -np.log1p(-uniforms(key(seed, cycle, i), np.arange(events))) / odds[i]
            times.append(np.cumsum(gaps))
            which.append(np.full(events, i, np.int16))
        parts.append(np.concatenate(which)[np.argsort(np.concatenate(times), kind="stable")])
    order = np.concatenate(parts)
    earlier = np.empty(len(order), np.int64)
    for i, count in enumerate(batches):
        earlier[order == i] = np.arange(count)
    order.setflags(write=False)
    earlier.setflags(write=False)
    return order, earlier
