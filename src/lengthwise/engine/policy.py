"""How many guesses to verify: as many as pay on this machine, none included.

Drafters propose freely; a policy prunes their trees before the forward. Goodput (after SmartSpec,
Liu et al. 2024, arXiv 2406.14066) maximises expected tokens per second

    rate(g) = (rows + sum of the g highest chances) / seconds(g),   g = 0, 1, 2, ...

where a node's chance is that of its whole path coming true, and seconds(g) is the measured time of
a step with g guesses. Ours ranks nodes of all trees of a batch in one list, so one node budget goes
where it is worth most, whoever guessed. Pruning deterministic guesses changes no token.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lengthwise.engine.acceptance import Acceptance
from lengthwise.engine.cost import Load, StepCost
from lengthwise.engine.tree import Tree

if TYPE_CHECKING:
    from lengthwise.engine.roles import Drafter
    from lengthwise.models.adapt import Adapted

# Drafting must promise this much more than a plain step before it is done.
MARGIN = 1.05
# A drafter is asked this often before it is judged.
TRIALS = 3
# The most guesses a step is considered with.
MOST_GUESSES = 256


class Pace:
    """How deep a drafter that asks a model goes, decided level by level as it goes. The plain one
    stops nowhere.

    wants_state: hidden states are looked at. levels: how many were guessed.
    """

    wants_state = False

    def __init__(self) -> None:
        self.levels = 0

    def go_on(self, grade: int, prior: float, state: Tensor | None = None) -> bool:
        """Called after each level with the grade and prior of its best guess, and the hidden state
        `[hidden]` it was read from; returns whether to guess another. What was drawn stays."""
        self.levels += 1
        return True


class LengthPolicy:
    """Decides how much is guessed, and what of it is verified; the plain one: all of everything.

    clock: seconds, monotonic.
    """

    clock: Callable[[], float] = staticmethod(time.perf_counter)

    def pace(
        self, load: Load, drafter: Drafter, tree: Tree, belief: Acceptance, limit: int
    ) -> Pace | None:
        """Whether a drafter is asked to add to a tree up to `limit` deep, and how far it goes."""
        return Pace()

    def choose(self, load: Load, trees: Seq[Tree], beliefs: Seq[Acceptance]) -> list[Tree]:
        """The trees of a batch, pruned; node 0 of each always stays."""
        return list(trees)

    def observe(self, load: Load, guesses: int, seconds: float) -> None:
        """A step with so many guesses over all rows took so long, drafting not counted."""

    def drafted(self, load: Load, drafter: Drafter, levels: int, seconds: float) -> None:
        """A drafter was asked, guessed so many levels and took so long."""

    def gained(self, load: Load, drafter: Drafter, tokens: int) -> None:
        """A drafter that was asked got so many tokens accepted that it guessed first."""


@dataclass
class Worth:
    """What asking a drafter has cost and brought lately: seconds and tokens a time.

    level_seconds: a level of guesses, for drafters that ask a model. idle: steps since it was last
    asked; patience: how many it waits for while it does not pay.
    """

    seconds: float = 0.0
    tokens: float = 0.0
    level_seconds: float = 0.0
    asked: int = 0
    idle: int = 0
    patience: int = 8

    def note_time(self, levels: int, seconds: float) -> None:
        share = max(0.1, 1 / (self.asked + 1))
        self.seconds += share * (seconds - self.seconds)
        if levels:
            self.level_seconds += share * (seconds / levels - self.level_seconds)
        self.asked += 1
        self.idle = 0

    def note_gain(self, tokens: int) -> None:
        self.tokens += max(0.1, 1 / max(1, self.asked)) * (tokens - self.tokens)


class Goodput(LengthPolicy):
    """Maximises expected tokens per second; learns what steps cost on this machine."""

    def __init__(self, slope: float = 0.05, clock: Callable[[], float] = time.perf_counter) -> None:
        """slope: what a guess is taken to add to a step, as a share of it, until measured."""
        self.slope = slope
        self.clock = clock
        self._costs: dict[Load, StepCost] = {}
        self._worth: dict[tuple[str, str], Worth] = {}
        self._population: dict[str, Acceptance] = {}

    def population(self, recipe: str) -> Acceptance:
        """What all requests of a recipe have seen come true."""
        return self._population.setdefault(recipe, Acceptance())

    def pace(
        self, load: Load, drafter: Drafter, tree: Tree, belief: Acceptance, limit: int
    ) -> Pace | None:
        worth = self._worth.setdefault((load.recipe, drafter.name), Worth())
        if worth.asked < TRIALS:
            return _Shallow() if drafter.asks_model else Pace()
        found = self._worthwhile(load, drafter, worth, tree, belief, limit)
        if found is not None:
            worth.patience = 8
            return found
        worth.idle += 1
        if worth.idle < worth.patience:
            return None
        # It is asked again now and then, for texts change; ever more rarely where asking is dear.
        worth.patience = min(worth.patience * 2, 512 if drafter.asks_model else 32)
        return _Shallow() if drafter.asks_model else Pace()

    def _worthwhile(
        self, load: Load, drafter: Drafter, worth: Worth, tree: Tree, belief: Acceptance, limit: int
    ) -> Pace | None:
        cost = self.cost(load)
        plain = float(cost.curve(0)[0]) / load.rows
        if not drafter.asks_model:
            return Pace() if worth.tokens * plain >= worth.seconds or not cost.known else None
        ranked = _ranked([tree], [belief])
        seconds = cost.curve(len(ranked) + limit)
        size = _best_size(1.0, ranked, seconds, MARGIN)
        tokens = 1.0 - sum(chance for _, chance, _, _ in ranked[:size])
        rate = tokens / float(seconds[size])
        first = -sum(c for _, c, _, node in ranked[:size] if tree.depths[node] == 1)
        hope, alpha = max(0.0, 1 - first), belief.mean(drafter.name)
        chance, asking = hope, 0.0
        for level in range(1, limit + 1):
            chance *= alpha
            tokens += chance
            asking += worth.level_seconds
            if tokens / (float(seconds[size + level]) + asking) > MARGIN * rate:
                verify = float(seconds[size + level] - seconds[size]) / level
                return _Marginal(belief, drafter.name, hope, rate * (worth.level_seconds + verify))
        return None

    def choose(self, load: Load, trees: Seq[Tree], beliefs: Seq[Acceptance]) -> list[Tree]:
        ranked = _ranked(trees, beliefs)[:MOST_GUESSES]
        seconds = self.cost(load).curve(len(ranked))
        return _pruned(trees, ranked[: _best_size(float(len(trees)), ranked, seconds, MARGIN)])

    def observe(self, load: Load, guesses: int, seconds: float) -> None:
        self.cost(load).observe(guesses, seconds)

    def drafted(self, load: Load, drafter: Drafter, levels: int, seconds: float) -> None:
        self._worth[load.recipe, drafter.name].note_time(levels, seconds)

    def gained(self, load: Load, drafter: Drafter, tokens: int) -> None:
        self._worth[load.recipe, drafter.name].note_gain(tokens)

    def cost(self, load: Load) -> StepCost:
        """The times of a load; those of the nearest load of the recipe to begin with."""
        found = self._costs.get(load)
        if found is None:
            others = [other for other in self._costs if other.recipe == load.recipe]
            if others:
                found = self._costs[min(others, key=lambda other: _distance(load, other))].borrow()
            else:
                found = StepCost(self.slope)
            self._costs[load] = found
        return found


class Fixed(LengthPolicy):
    """Always verifies the `guesses` likeliest nodes of each tree, whatever that costs."""

    def __init__(self, guesses: int = MOST_GUESSES) -> None:
        self.guesses = guesses

    def choose(self, load: Load, trees: Seq[Tree], beliefs: Seq[Acceptance]) -> list[Tree]:
        found = []
        for tree, belief in zip(trees, beliefs, strict=True):
            ranked = _ranked([tree], [belief])
            drawn = sum(not free for free, *_ in ranked)
            found += _pruned([tree], ranked[: max(drawn, self.guesses)])
        return found


class _Shallow(Pace):
    """A first or a new try: two levels."""

    def go_on(self, grade: int, prior: float, state: Tensor | None = None) -> bool:
        return super().go_on(grade, prior, state) and self.levels < 2


class _Marginal(Pace):
    """Another level is guessed while the tokens it may bring come faster than the others do.

    tokens: what the seconds of a level, its verification included, bring otherwise.
    """

    def __init__(self, belief: Acceptance, source: str, hope: float, tokens: float) -> None:
        super().__init__()
        self.belief, self.source, self.tokens = belief, source, tokens
        self.chance, self.alpha = hope, belief.mean(source)

    def go_on(self, grade: int, prior: float, state: Tensor | None = None) -> bool:
        super().go_on(grade, prior, state)
        self.chance *= self.belief.average(self.source, grade, prior)
        return self.chance * self.alpha > self.tokens


def policy_for(model: Adapted) -> Goodput:
    """The goodput policy of a model, shared by its requests so that costs are learned once."""
    found = _POLICIES.get(model)
    if found is None:
        # Float32 products of a CPU grow with their rows almost at once; the others idle on weights.
        slow = model.device.type == "cpu" and model.dtype in (torch.float32, torch.float64)
        found = _POLICIES[model] = Goodput(0.14 if slow else 0.03)
    return found


_POLICIES: WeakKeyDictionary[Adapted, Goodput] = WeakKeyDictionary()


Ranked = list[tuple[bool, float, int, int]]


def _ranked(trees: Seq[Tree], beliefs: Seq[Acceptance]) -> Ranked:
    """(not drawn, -chance, tree, node) of all guesses: first those that were drawn, which are
    verified whatever they say, then the likeliest; a parent comes before its children."""
    found = []
    for row, (tree, belief) in enumerate(zip(trees, beliefs, strict=True)):
        drawn = tree.drawn()
        for node, chance in enumerate(belief.chances(tree)):
            if node:
                found.append((node not in drawn, -chance, row, node))
    return sorted(found)


def _best_size(tokens: float, ranked: Ranked, seconds: NDArray[np.float64], margin: float) -> int:
    """How many of the ranked guesses give most tokens a second, with `tokens` without any."""
    best, times = 0, seconds.tolist()
    rate = margin * tokens / times[0]
    # Costs may have steps, so all sizes are compared instead of stopping at the first descent.
    for count, (free, chance, _, _) in enumerate(ranked, 1):
        tokens -= chance
        if not free or tokens / times[count] > rate:
            best, rate = count, tokens / times[count]
    return best


def _pruned(trees: Seq[Tree], ranked: Ranked) -> list[Tree]:
    kept: list[list[int]] = [[0] for _ in trees]
    for *_, row, node in ranked:
        kept[row].append(node)
    return [
        tree if len(nodes) == len(tree) else tree.keep(sorted(nodes))
        for tree, nodes in zip(trees, kept, strict=True)
    ]


def _distance(one: Load, other: Load) -> float:
    return abs(one.octave - other.octave) + abs(math.log2(one.rows / other.rows))
