"""How many guesses to verify: as many as pay on this machine, none included.

Drafters propose freely. A policy prunes their trees before the forward. Goodput (after SmartSpec,
Liu et al. 2024, arXiv 2406.14066) maximises expected tokens per second

    rate(g) = (rows + sum of the g highest probabilities) / seconds(g),   g = 0, 1, 2, ...

where a node's probability is that of its whole path being accepted, and seconds(g) is the measured
time of a step with g guesses. Ours ranks the nodes of all trees of a batch in one list: one node
budget goes where it is worth most, whoever guessed.

What may be pruned:

- Where nobody draws, anything, for any reason. Every token is chosen by the noise of its position,
  whether it was guessed or not.
- Where somebody draws, what was drawn stays. The rest may go for any reason that knows nothing of
  the noise of a token not yet said. For a guess that goes leaves the token below it to the next
  round, which may draw it. `Tree.drawing` tells drafters, so that no guess holds that noise and
  policies need not look.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence as Seq
from functools import wraps
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.draft_depth import DraftDepth, DrafterView, UpTo
from lengthwise.engine.speculative.drafter_stats import DrafterStats
from lengthwise.engine.speculative.latest import Latest
from lengthwise.engine.speculative.ranking import (
    MOST_GUESSES,
    best_size,
    held_count,
    miss_prob,
    prune,
    rank,
)
from lengthwise.engine.speculative.step_cost import Load, StepCost
from lengthwise.engine.speculative.tree import Tree
from lengthwise.models.adapted_model import AdaptedModel

Method = TypeVar("Method", bound=Callable[..., Any])

# Drafting must promise this much more than a plain step before it is done.
MARGIN = 1.05
# Levels that a drafter which runs a model drafts when it is tried.
TRIED_LEVELS = 2
# A drafter that costs less than this share of a plain step is always asked.
FREE = 0.005
# The most levels that a model is asked for.
MOST_LEVELS = 64


class LengthPolicy:
    """Decides how much is drafted and what of it is verified. This one: all of everything.

    clock: seconds, monotonic.
    """

    clock: Callable[[], float] = staticmethod(time.perf_counter)

    def draft_depth(
        self, load: Load, drafter: DrafterView, tree: Tree, acceptance: Acceptance, limit: int
    ) -> DraftDepth | None:
        """How far a drafter goes that is about to add to a tree.

        Args:
            load: what the step has to do.
            drafter: who would be asked.
            tree: what was guessed before it.
            acceptance: how often guesses were accepted in this row.
            limit: levels that are allowed.

        Returns:
            What the drafter asks after each level; None is not to ask it.
        """
        return DraftDepth()

    def choose(self, load: Load, trees: Seq[Tree], acceptances: Seq[Acceptance]) -> list[Tree]:
        """Prunes the trees of a batch.

        Args:
            load: what the step has to do.
            trees: what was guessed, by row.
            acceptances: how often guesses were accepted, by row.

        Returns:
            As many trees. Node 0 of each always stays, and so does what was drawn.
        """
        return list(trees)

    def observe(self, load: Load, guesses: int, seconds: float) -> None:
        """A step was made.

        Args:
            load: what it had to do.
            guesses: that were verified, over all rows.
            seconds: that it took, drafting not counted.
        """

    def drafted(self, load: Load, drafter: DrafterView, levels: int, seconds: float) -> None:
        """A drafter was asked, drafted so many levels and took so long.

        Args:
            load: what the step had to do.
            drafter: who was asked.
            levels: how many it drafted with a model; 0 for one that runs none.
            seconds: for drafting, and for learning from the outcome.
        """

    def gained(self, load: Load, drafter: DrafterView, tokens: int) -> None:
        """So many tokens were accepted that a drafter which was asked guessed first.

        Args:
            load: what the step had to do.
            drafter: who was asked.
            tokens: its accepted guesses; 0 where none came true.
        """


def _locked(method: Method) -> Method:
    """A method of what has a lock, run by one thread at a time."""

    @wraps(method)
    def run(self: Goodput, *given: Any, **named: Any) -> Any:
        with self._lock:
            return method(self, *given, **named)

    return cast(Method, run)


class Goodput(LengthPolicy):
    """Maximises expected tokens per second, by costs measured on this machine.

    A drafter that does not pay is tried again now and then, for texts change. Threads may share a
    policy: what was learned is everybody's, and who was asked in a round is the thread's own.
    """

    def __init__(
        self,
        slope: float = 0.05,
        clock: Callable[[], float] = time.perf_counter,
        margin: float = MARGIN,
    ) -> None:
        """
        Args:
            slope: what a guess adds to a step, as a share of it, until it is measured.
            clock: seconds, monotonic.
            margin: how many times the speed of a plain step drafting must promise.
        """
        self.slope = slope
        self.clock = clock
        self.margin = margin
        self._costs: Latest[Load, StepCost] = Latest(self._first_cost)
        self._stats: Latest[tuple[str, str], DrafterStats] = Latest(lambda _: DrafterStats())
        self._population: Latest[str, Acceptance] = Latest(lambda _: Acceptance())
        self._lock = threading.RLock()
        self._round = threading.local()

    @property
    def _asked(self) -> list[tuple[Load, DrafterView, _GoodputDepth]]:
        """Who was asked in the round of this thread."""
        found: list[tuple[Load, DrafterView, _GoodputDepth]] = self._round.__dict__.setdefault(
            "asked", []
        )
        return found

    def population(self, recipe: str) -> Acceptance:
        """What all requests of a recipe have seen come true.

        Args:
            recipe: its plan's `learned_as`.
        """
        with self._lock:
            return self._population[recipe]

    @_locked
    def draft_depth(
        self, load: Load, drafter: DrafterView, tree: Tree, acceptance: Acceptance, limit: int
    ) -> DraftDepth | None:
        stats = self._stats[load.recipe, drafter.name]
        plain = self._plain(load)
        found: _GoodputDepth | None = None
        if not stats.trying:
            if drafter.runs_model:
                found = self._depth(load, drafter.name, stats, tree, acceptance, limit)
            elif not self.cost(load).known or stats.seconds <= plain * max(FREE, stats.tokens):
                found = _GoodputDepth(stats, acceptance, drafter.name, 1.0, limit)
            elif stats.wait(plain):
                return None
            if found is None and drafter.runs_model and stats.wait(plain):
                return None
        if found is None:
            missed = miss_prob(tree, acceptance)
            found = _GoodputDepth(stats, acceptance, drafter.name, missed, TRIED_LEVELS, tried=True)
            stats.trying -= 1
        self._asked.append((load, drafter, found))
        return found

    def _depth(
        self, load: Load, name: str, stats: DrafterStats, tree: Tree, acceptance: Acceptance,
        limit: int,
    ) -> _GoodputDepth | None:  # fmt: skip
        """How far a drafter that runs a model should go below a tree; None is not to ask it."""
        limit = min(limit, MOST_LEVELS)
        ranked = rank([tree], [acceptance])
        seconds = self.cost(load).curve(len(ranked) + math.ceil(limit * stats.width))
        size = best_size(float(load.rows), ranked, seconds, self.margin)
        tokens = load.rows - sum(prob for _, prob, _, _ in ranked[:size])
        missed = prob = miss_prob(tree, acceptance)
        best, depth, verifying = self.margin * tokens / float(seconds[size]), 0, 0.0
        for level in range(1, limit + 1):
            prob *= stats.alpha
            tokens += prob
            verify = float(seconds[size + round(level * stats.width)])
            rate = tokens / (verify + level * stats.level_seconds)
            if rate > best:
                best, depth, verifying = rate, level, (verify - float(seconds[size])) / level
        if not depth:
            return None
        price = best * (stats.level_seconds + verifying)
        return _GoodputDepth(stats, acceptance, name, missed, limit, price)

    @_locked
    def choose(self, load: Load, trees: Seq[Tree], acceptances: Seq[Acceptance]) -> list[Tree]:
        # A round that was interrupted may have left drafters of another recipe behind.
        asked = [(drafter, depth) for at, drafter, depth in self._asked if at == load]
        self._asked.clear()
        tried = {drafter.name for drafter, depth in asked if depth.tried and drafter.runs_model}
        ranked = rank(trees, acceptances, tried)
        held = held_count(ranked)
        ranked = ranked[: max(held, MOST_GUESSES)]
        cost = self.cost(load)
        if cost.unsure and not held:
            return prune(trees, [])
        size = 0
        if ranked:
            seconds = cost.curve(len(ranked))
            if cost.known:
                # Drafting is paid for, and the dearer it was the more guesses are worth it.
                seconds = seconds + sum(depth.seconds for _, depth in asked)
            size = best_size(float(len(trees)), ranked, seconds, self.margin)
        found = prune(trees, ranked[:size])
        for name in {drafter.name for drafter, depth in asked if depth.levels}:
            levels = sum(depth.levels for drafter, depth in asked if drafter.name == name)
            nodes = sum(tree.sources.count(name) for tree in found)
            stats = self._stats[load.recipe, name]
            stats.width += 0.2 * (max(1.0, nodes / levels) - stats.width)
        return found

    @_locked
    def observe(self, load: Load, guesses: int, seconds: float) -> None:
        self.cost(load).observe(guesses, seconds)

    @_locked
    def drafted(self, load: Load, drafter: DrafterView, levels: int, seconds: float) -> None:
        self._stats[load.recipe, drafter.name].note_time(levels, seconds)

    @_locked
    def gained(self, load: Load, drafter: DrafterView, tokens: int) -> None:
        stats, depth = self._stats[load.recipe, drafter.name], drafter.draft_depth
        if isinstance(depth, _GoodputDepth):
            stats.note_gain(tokens, depth.level_probs, depth.missed)
            if depth.tried and tokens * self._plain(load) > depth.seconds:
                # One that pays is asked once more, until it is known how much it brings.
                stats.trying = max(1, stats.trying)

    def _plain(self, load: Load) -> float:
        """Seconds that a token takes without drafting."""
        return self.cost(load).plain / load.rows

    @_locked
    def cost(self, load: Load) -> StepCost:
        """The times of a load; those of the nearest load of the recipe to begin with."""
        return self._costs[load]

    def _first_cost(self, load: Load) -> StepCost:
        others = [other for other in self._costs if other.recipe == load.recipe]
        if not others:
            return StepCost(self.slope)
        return self._costs[min(others, key=lambda other: _distance(load, other))].borrow()


class Fixed(LengthPolicy):
    """Always verifies the `guesses` likeliest nodes of each tree, whatever that costs.

    Nodes that were drawn are verified all the same: leaving out some for what they are would be
    lossy.
    """

    def __init__(self, guesses: int = MOST_GUESSES) -> None:
        self.guesses = guesses

    def draft_depth(
        self, load: Load, drafter: DrafterView, tree: Tree, acceptance: Acceptance, limit: int
    ) -> DraftDepth | None:
        return UpTo(self.guesses) if self.guesses else None

    def choose(self, load: Load, trees: Seq[Tree], acceptances: Seq[Acceptance]) -> list[Tree]:
        found = []
        for tree, acceptance in zip(trees, acceptances, strict=True):
            ranked = rank([tree], [acceptance])
            found += prune([tree], ranked[: max(held_count(ranked), self.guesses)])
        return found


class _GoodputDepth(UpTo):
    """Drafts another level while the tokens it may bring come faster than the others do.

    missed: probability that the first level is needed, no guess above it being right. price: tokens
    that the seconds of a level, its verification included, bring otherwise. tried: asked to see
    what it brings. level_probs: probability of the best guess of each level. prob: that the next
    level is reached.
    """

    def __init__(
        self, stats: DrafterStats, acceptance: Acceptance, source: str, missed: float, most: int,
        price: float = -1.0, tried: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(most)
        self.stats, self.acceptance, self.source = stats, acceptance, source
        self.missed, self.price, self.tried = missed, price, tried
        self.prob = missed
        self.level_probs: list[float] = []

    @property
    def seconds(self) -> float:
        """What this drafting is taken to have cost."""
        return self.stats.level_seconds * self.levels if self.levels else self.stats.seconds

    def should_continue(self, bucket: int, prior: float, state: Tensor | None = None) -> bool:
        self.level_probs.append(self.acceptance.average(self.source, bucket, prior))
        self.prob *= self.stats.prob(self.level_probs[-1])
        further = super().should_continue(bucket, prior, state)
        return further and self.prob * self.stats.alpha > self.price


def policy_for(model: AdaptedModel, margin: float = MARGIN) -> Goodput:
    """The goodput policy of a model at a margin; its requests share it and what it learned."""
    with _MAKING:
        policies = _POLICIES.setdefault(model, {})
        if margin not in policies:
            policies[margin] = Goodput(first_slope(model), margin=margin)
        return policies[margin]


def first_slope(model: AdaptedModel) -> float:
    """What a guess adds to a step of a model, as a share of it, until it is measured."""
    # Float32 products of a CPU grow with their rows almost at once; the others idle on weights.
    slow = model.device.type == "cpu" and model.dtype in (torch.float32, torch.float64)
    return 0.14 if slow else 0.05


_POLICIES: WeakKeyDictionary[AdaptedModel, dict[float, Goodput]] = WeakKeyDictionary()
_MAKING = threading.Lock()


def _distance(one: Load, other: Load) -> float:
    return abs(one.octave - other.octave) + abs(math.log2(one.rows / other.rows))


__all__ = [
    "MARGIN", "MOST_GUESSES", "DraftDepth", "Fixed", "Goodput", "LengthPolicy", "UpTo",
    "first_slope", "policy_for",
]  # fmt: skip
