"""The pieces that a plan of sequence-parallel groups is made of, and how a batch is cut for it.

`blast` cuts a batch into micro-batches, `bucket` coarsens lengths for the integer program, `spread`
deals sequences to groups of given sizes, and `climb` looks for sizes near the given ones.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lengthwise.training.flexsp_costs import Costs


@dataclass(frozen=True)
class Group:
    """Devices that share sequences: how many, which sequences of the batch, and their cost."""

    size: int
    sequences: tuple[int, ...]
    tokens: int
    time_ms: float
    memory_bytes: float


@dataclass(frozen=True)
class MicroBatch:
    """Groups that compute at the same time; the slowest sets `time_ms`.

    solver: "milp", or who found what the program did not better: "greedy", or "static" where all
    groups have one size. gap: the share by which the program's optimum, at bucketed lengths, may
    still lie below the best that it found (0: none does); None where no program was solved.
    """

    groups: tuple[Group, ...]
    solver: str
    gap: float | None = None

    @property
    def time_ms(self) -> float:
        return slowest(self.groups)


@dataclass(frozen=True)
class Plan:
    """Micro-batches of one step, one after the other. Gradients are to be added up over all tokens
    of the step and divided once: a mean of the groups' means would weigh short groups too much."""

    micro_batches: tuple[MicroBatch, ...]

    @property
    def time_ms(self) -> float:
        return sum(each.time_ms for each in self.micro_batches)

    @property
    def gap(self) -> float:
        """The largest gap that a micro-batch's program was left with."""
        return max((each.gap or 0.0 for each in self.micro_batches), default=0.0)


def make_group(size: int, chosen: Seq[int], lengths: Seq[int], costs: Costs) -> Group:
    """A group of `size` devices with the sequences numbered `chosen`, at their true lengths."""
    tokens = sum(lengths[i] for i in chosen)
    time = costs.fixed_ms + sum(costs.time(lengths[i], size) for i in chosen)
    return Group(size, tuple(chosen), tokens, time, costs.memory(tokens, size))


def blast(lengths: Seq[int], parts: int) -> list[list[int]]:
    """Sequence numbers, longest first, cut into at most `parts` runs with the least largest sum.

    The optimum over all cuts, found by bisection over that sum instead of a table.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    low, high = max(lengths), sum(lengths)
    while low < high:
        middle = (low + high) // 2
        if len(_runs(order, lengths, middle)) <= parts:
            high = middle
        else:
            low = middle + 1
    return _runs(order, lengths, low)


def _runs(order: Seq[int], lengths: Seq[int], most: int) -> list[list[int]]:
    runs: list[list[int]] = [[]]
    total = 0
    for i in order:
        if total + lengths[i] > most:
            runs.append([])
            total = 0
        runs[-1].append(i)
        total += lengths[i]
    return runs


def bucket(lengths: Seq[int], count: int) -> list[int]:
    """Upper bounds of at most `count` buckets, ascending, with the least sum of bound - length.

    Dynamic programming over the distinct lengths, [buckets, lengths]; exact where there are no more
    distinct lengths than buckets.
    """
    values, weights = np.unique(np.asarray(lengths, np.int64), return_counts=True)
    if len(values) <= count:
        return [int(each) for each in values]
    # Padding of distinct lengths start..end - 1 rounded up to the last of them.
    number = np.concatenate([[0], np.cumsum(weights)])
    tokens = np.concatenate([[0], np.cumsum(weights * values)])
    best = values * number[1:] - tokens[1:]
    cuts: list[NDArray[np.int64]] = []
    ends = np.arange(len(values))
    for _ in range(count - 1):
        # [end, cut]: buckets before hold ..cut, the last one cut + 1..end.
        last = values[:, None] * (number[1:, None] - number[None, 1:])
        last = last - (tokens[1:, None] - tokens[None, 1:])
        total = np.where(
            ends[None, :] < ends[:, None], best[None, :] + last, np.iinfo(np.int64).max
        )
        cut = total.argmin(axis=1)
        found = total[ends, cut]
        cuts.append(np.where(found < best, cut, -1))
        best = np.minimum(best, found)
    bounds, end = [], len(values) - 1
    for cut in reversed(cuts):
        bounds.append(int(values[end]))
        if cut[end] < 0:
            return bounds[::-1]
        end = int(cut[end])
    return [int(values[end]), *bounds[::-1]]


def spread(
    chosen: Seq[int], lengths: Seq[int], sizes: Seq[int], costs: Costs
) -> list[Group] | None:
    """Sequences dealt to groups of the given sizes, empty ones dropped; None where memory forbids.

    Longest first to the group where it is done first, among those with room; where that ends
    without room, to the fullest group that has it, as packing does.
    """
    order = sorted(chosen, key=lambda i: -lengths[i])
    kinds, kind = np.unique(np.array(sizes), return_inverse=True)
    most = (costs.capacity * kinds)[kind]
    added = [np.array([costs.time(lengths[i], int(p)) for p in kinds])[kind] for i in order]
    for tight in (False, True):
        time, room = np.zeros(len(most)), most.copy()
        held: list[list[int]] = [[] for _ in sizes]
        for i, more in zip(order, added, strict=True):
            if lengths[i] > room.max():
                break
            rank = room if tight else time + more
            g = int(np.where(room >= lengths[i], rank, np.inf).argmin())
            held[g].append(i)
            time[g] += more[g]
            room[g] -= lengths[i]
        else:
            groups = zip(sizes, held, strict=True)
            return [make_group(p, each, lengths, costs) for p, each in groups if each]
    return None


def climb(
    chosen: Seq[int], lengths: Seq[int], sizes: Seq[int], devices: int, allowed: Seq[int],
    costs: Costs,
) -> list[Group] | None:  # fmt: skip
    """`spread` over the sizes that splitting, joining and adding groups one by one leads to."""
    shape = tuple(sorted(sizes))
    best = spread(chosen, lengths, shape, costs)
    seen = {shape}
    while True:
        better = None
        for each in _neighbours(shape, devices, allowed) - seen:
            seen.add(each)
            groups = spread(chosen, lengths, each, costs)
            if groups and (best is None or slowest(groups) < slowest(best)):
                best, better = groups, each
        if better is None:
            return best
        shape = better


def slowest(groups: Seq[Group]) -> float:
    """Milliseconds of the group that is done last."""
    return max(group.time_ms for group in groups)


def _neighbours(shape: tuple[int, ...], devices: int, allowed: Seq[int]) -> set[tuple[int, ...]]:
    found = {(*shape, p) for p in allowed if p <= devices - sum(shape)}
    for p in set(shape):
        less = list(shape)
        less.remove(p)
        if p // 2 in allowed:
            found.add((*less, p // 2, p // 2))
        if p in less and 2 * p in allowed:
            less.remove(p)
            found.add((*less, 2 * p))
    return {tuple(sorted(each)) for each in found}
