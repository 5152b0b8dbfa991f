"""FlexSP: which devices form sequence-parallel groups in a step, and who gets which sequence.

Wang et al., "FlexSP: Accelerating Large Language Model Training via Flexible Sequence Parallelism",
ASPLOS 2025, arXiv:2412.01523.

The lengths of a batch's sequences differ by orders of magnitude. One group size for all must be
large enough for the longest. The short ones then pay for all-to-all between nodes that they do not
need. So for every step groups of different sizes are chosen and sequences assigned to them by a
mixed-integer linear program, solved here with HiGHS (`scipy.optimize.milp`):

    minimise M   with  A[k, g] sequences of bucket k in group g, u[g] whether group g exists
    sum_g A[k, g] = sequences of bucket k
    sum_k bound_k A[k, g] <= capacity p_g u_g                   memory
    sum_k time(bound_k, p_g) A[k, g] + fixed u_g <= M           time
    sum_g p_g u_g <= devices

Sequences are costed at their bucket's bound, so that true times and memory lie at or below.

Ours differs: equal groups are ordered, so that the program does not try their orders again. Devices
may stay idle. A row adds up the work of all devices, for a bound while u is not yet whole. A greedy
search over group sizes runs first, one size for all among them. M is bounded by the best that it
found, so the result is never worse than that. As in the authors' code groups of one device are left
out, unless they are asked for or nothing else fits the devices. For their table has no time for
what such a group saves.

A program that runs out of time may end elsewhere on another machine. So plan on one rank and send
the plan to the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence as Seq
from dataclasses import replace
from itertools import islice
from math import ceil
from typing import Any

import numpy as np

from lengthwise._utils.papers import Paper
from lengthwise.errors import LengthwiseError
from lengthwise.training.flexsp_costs import Costs
from lengthwise.training.flexsp_groups import (
    Group,
    MicroBatch,
    Plan,
    blast,
    bucket,
    climb,
    make_group,
    slowest,
    spread,
)

PAPER = Paper(
    "FlexSP: Accelerating Large Language Model Training via Flexible Sequence Parallelism",
    "Wang et al.",
    2025,
    arxiv="2412.01523",
    venue="ASPLOS",
    code="https://github.com/PKU-DAIR/Hetu-Galvatron",
)
# HiGHS may stop this close to the optimum: under the error of any cost table.
GAP = 0.005
# What scipy's milp returns as its status when time ran out.
TIME_OUT = 1
# Cuts looked at for every cut that is to be planned, as some do not fit into memory.
MORE = 4


def plan(
    lengths: Seq[int], devices: int, costs: Costs, *, sizes: Seq[int] | None = None,
    buckets: int = 16, tries: int = 3, time_limit_s: float = 5.0,
) -> Plan:  # fmt: skip
    """The fastest plan found for a step.

    lengths: tokens of each sequence of the batch. sizes: group sizes allowed (default: every power
    of two in the cost table but 1). buckets: distinct lengths that a program sees. tries: counts of
    micro-batches tried, from the fewest that fit. time_limit_s: of one micro-batch's program; where
    it runs out, `MicroBatch.gap` says what is left.
    Raises LengthwiseError for a sequence that fits no group, naming its length and the memory.
    """
    allowed = _check(lengths, devices, costs, sizes)
    best = best_static(lengths, devices, costs, sizes=allowed, tries=tries)
    planned = 0
    for parts in islice(_cuts(lengths, devices, costs), MORE * tries):
        if sum(_floor(part, lengths, devices, costs, allowed) for part in parts) >= best.time_ms:
            continue
        micro = []
        for part in parts:
            each = plan_micro_batch(
                part, lengths, devices, costs, sizes=allowed, buckets=buckets,
                time_limit_s=time_limit_s,
            )  # fmt: skip
            if each is None:
                break
            micro.append(each)
        else:
            planned += 1
            best = min(best, Plan(tuple(micro)), key=lambda each: each.time_ms)
        if planned == tries:
            break
    return best


def best_static(
    lengths: Seq[int], devices: int, costs: Costs, *, sizes: Seq[int] | None = None, tries: int = 3
) -> Plan:
    """The fastest plan whose groups are all of one size. Raises LengthwiseError as `plan`."""
    allowed = _check(lengths, devices, costs, sizes)
    found = [static_plan(lengths, devices, costs, size, tries=tries) for size in allowed]
    return min((each for each in found if each), key=lambda each: each.time_ms)


def static_plan(
    lengths: Seq[int], devices: int, costs: Costs, size: int, *, tries: int = 3
) -> Plan | None:
    """The fastest plan with groups of `size` only; None where a sequence does not fit into one."""
    if max(lengths) > costs.capacity * size:
        return None
    found: list[Plan] = []
    for parts in _cuts(lengths, devices // size * size, costs):
        groups = [spread(part, lengths, [size] * (devices // size), costs) for part in parts]
        if all(groups):
            found.append(Plan(tuple(MicroBatch(tuple(each), "static") for each in groups if each)))
        if len(found) == tries:
            break
    return min(found, key=lambda each: each.time_ms)


def plan_micro_batch(
    part: Seq[int], lengths: Seq[int], devices: int, costs: Costs, *, sizes: Seq[int],
    buckets: int = 16, time_limit_s: float = 5.0,
) -> MicroBatch | None:  # fmt: skip
    """Groups for the sequences numbered `part`, computed at once; None where memory forbids."""
    best = _greedy(part, lengths, devices, costs, sizes)
    chosen = [lengths[i] for i in part]
    bounds = bucket(chosen, buckets)
    least = _floor(part, lengths, devices, costs, sizes)
    cutoff = best.time_ms if best else np.inf
    if best and cutoff - least <= GAP * cutoff:
        return replace(best, gap=1.0 - least / cutoff)
    program = _Program(chosen, bounds, devices, costs, sizes, least, cutoff)
    counts, gap = program.solve(time_limit_s)
    if counts is None:
        return best and replace(best, gap=gap)
    held = _deal(part, lengths, bounds, counts)
    groups = [
        make_group(size, each, lengths, costs)
        for size, each in zip(program.groups, held, strict=True)
        if each
    ]
    found = MicroBatch(tuple(groups), "milp", gap)
    return found if best is None or found.time_ms <= best.time_ms else replace(best, gap=gap)


def _greedy(
    part: Seq[int], lengths: Seq[int], devices: int, costs: Costs, sizes: Seq[int]
) -> MicroBatch | None:
    """The best of one size for all groups, and of what is near the best two such sizes; near any
    size where memory allows none for all."""
    static = []
    for size in sizes:
        groups = spread(part, lengths, [size] * (devices // size), costs)
        if groups:
            static.append((slowest(groups), size, groups))
    static.sort()
    found = [MicroBatch(tuple(groups), "static") for _, _, groups in static[:1]]
    for size in [each[1] for each in static[:2]] or sizes:
        groups = climb(part, lengths, [size] * (devices // size), devices, sizes, costs)
        if groups:
            found.append(MicroBatch(tuple(groups), "greedy"))
    return min(found, key=lambda each: each.time_ms, default=None)


class _Program:
    """The mixed-integer program of one micro-batch. Variables: A[k, g] row by row, u[g], M."""

    def __init__(
        self, lengths: Seq[int], bounds: Seq[int], devices: int, costs: Costs,
        sizes: Seq[int], least: float, cutoff: float,
    ) -> None:  # fmt: skip
        number = len(lengths)
        self.groups = [p for p in sizes for _ in range(min(devices // p, number))]
        self._bounds, self._devices, self._costs = bounds, devices, costs
        self._least, self._cutoff = least, cutoff
        self._counts = np.bincount(np.searchsorted(bounds, lengths), minlength=len(bounds))

    def solve(self, time_limit_s: float) -> tuple[np.ndarray[Any, Any] | None, float]:
        """([buckets, groups] counts, relative gap); None for counts where nothing below the cutoff
        was found: with gap 0 there is nothing, else time ran out."""
        try:
            from scipy.optimize import Bounds, milp
        except ImportError as error:
            raise LengthwiseError("planning needs scipy: pip install scipy") from error
        buckets, groups = len(self._bounds), len(self.groups)
        count = buckets * groups
        objective = np.zeros(count + groups + 1)
        objective[-1] = 1.0
        lower = objective * self._least
        upper = np.concatenate([self._most().ravel(), np.ones(groups), [self._cutoff]])
        whole = np.ones(count + groups + 1, np.int64)
        whole[-1] = 0
        result = milp(
            objective, constraints=self._constraints(), bounds=Bounds(lower, upper),
            integrality=whole, options={"time_limit": time_limit_s, "mip_rel_gap": GAP},
        )  # fmt: skip
        if result.x is None:
            bound = max(self._least, result.mip_dual_bound or 0.0)
            return None, max(0.0, 1.0 - bound / self._cutoff) if result.status == TIME_OUT else 0.0
        counts = np.rint(result.x[:count]).astype(np.int64).reshape(buckets, groups)
        return counts, float(result.mip_gap)

    def _most(self) -> np.ndarray[Any, Any]:
        """How many sequences of each bucket fit into each group: [buckets, groups]."""
        room = self._costs.capacity * np.array(self.groups)
        fits = room[None, :] // np.array(self._bounds)[:, None]
        most: np.ndarray[Any, Any] = np.minimum(fits, self._counts[:, None])
        return most

    def _constraints(self) -> list[Any]:
        from scipy.optimize import LinearConstraint
        from scipy.sparse import csr_array, diags_array, eye_array, hstack, kron

        sizes, bounds = np.array(self.groups), np.array(self._bounds)
        buckets, groups = len(bounds), len(sizes)
        each, none = eye_array(groups), csr_array((groups, 1))
        times = np.array([[self._costs.time(b, p) for p in self.groups] for b in self._bounds])
        fixed, room = self._costs.fixed_ms, -self._costs.capacity * sizes.astype(float)
        every = hstack(
            [kron(eye_array(buckets), np.ones((1, groups))), csr_array((buckets, groups + 1))]
        )
        memory = hstack([kron(bounds[None, :], each), diags_array(room), none])
        spent = [diags_array(row) for row in times]
        time = hstack([*spent, fixed * each, -np.ones((groups, 1))])
        devices = np.concatenate([np.zeros(buckets * groups), sizes, [0.0]])[None, :]
        # Implied by the rows above once u is whole, and what gives the program a bound before that.
        busy = np.concatenate([(times * sizes).ravel(), fixed * sizes, [-self._devices]])[None, :]
        found = [
            LinearConstraint(every, self._counts, self._counts),
            LinearConstraint(memory, -np.inf, 0.0),
            LinearConstraint(time, -np.inf, 0.0),
            LinearConstraint(devices, -np.inf, self._devices),
            LinearConstraint(busy, -np.inf, 0.0),
        ]
        twins = np.flatnonzero(sizes[1:] == sizes[:-1])
        if len(twins):
            order = np.zeros((len(twins), buckets * groups + groups + 1))
            rows = np.arange(len(twins))
            order[rows, buckets * groups + twins + 1] = 1.0
            order[rows, buckets * groups + twins] = -1.0
            found.append(LinearConstraint(csr_array(order), -np.inf, 0.0))
        return found


def _deal(
    part: Seq[int], lengths: Seq[int], bounds: Seq[int], counts: np.ndarray[Any, Any]
) -> list[list[int]]:
    """The sequences themselves, by group, from how many of each bucket each group gets."""
    waiting: list[list[int]] = [[] for _ in bounds]
    for i in part:
        waiting[int(np.searchsorted(bounds, lengths[i]))].append(i)
    held: list[list[int]] = [[] for _ in range(counts.shape[1])]
    for sequences, row in zip(waiting, counts, strict=True):
        start = 0
        for g, number in enumerate(row):
            held[g].extend(sequences[start : start + number])
            start += number
    return held


def _cuts(lengths: Seq[int], devices: int, costs: Costs) -> Iterator[list[list[int]]]:
    """Cuts of a batch into ever more micro-batches, from the fewest that may fit."""
    first = max(1, ceil(sum(lengths) / (costs.capacity * devices)))
    before: list[list[int]] = []
    for count in range(first, len(lengths) + 1):
        parts = blast(lengths, count)
        if parts != before:
            yield parts
        before = parts


def _floor(part: Seq[int], lengths: Seq[int], devices: int, costs: Costs, sizes: Seq[int]) -> float:
    """Milliseconds that no plan of a micro-batch can go below: all work on all devices evenly,
    and the longest sequence on its best group."""
    work = np.array([[p * costs.time(lengths[i], p) for p in sizes] for i in part])
    longest = max(lengths[i] for i in part)
    alone = min(costs.time(longest, p) for p in sizes)
    return costs.fixed_ms + max(float(work.min(axis=1).sum()) / devices, alone)


def _check(
    lengths: Seq[int], devices: int, costs: Costs, sizes: Seq[int] | None
) -> tuple[int, ...]:
    known = costs.sizes(devices)
    allowed = tuple(sorted(set(sizes))) if sizes is not None else costs.usual_sizes(devices)
    odd = [each for each in allowed if each not in known]
    if odd or not allowed:
        raise LengthwiseError(
            f"group size {odd[0] if odd else 'none'} is not possible on {devices} devices with "
            f"this cost table; allowed: {', '.join(map(str, known)) or 'none'}"
        )
    if not lengths or min(lengths) < 1:
        raise LengthwiseError("a batch needs sequences, each of at least 1 token")
    if max(lengths) > costs.capacity * allowed[-1]:
        raise _does_not_fit(max(lengths), allowed[-1], costs)
    return allowed


def _does_not_fit(length: int, size: int, costs: Costs) -> LengthwiseError:
    needed = costs.memory(length, size) / 2**30
    return LengthwiseError(
        f"a sequence of {length:,} tokens fits no group: on {size} devices it needs "
        f"{needed:.1f} GiB each, of {costs.memory_bytes / 2**30:.1f}; "
        f"the longest that fits has {costs.capacity * size:,} tokens"
    )


__all__ = ["Group", "MicroBatch", "Plan", "best_static", "plan", "plan_micro_batch", "static_plan"]
