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
from collections import deque
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from statistics import median_low
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from lengthwise.engine.tree import Tree

if TYPE_CHECKING:
    from lengthwise.models.adapt import Adapted

# A prior weighs as much as this many guesses that were checked.
PRIOR_WEIGHT = 2.0
# What one more outcome leaves of the weight of those before it: 25 of them are remembered.
FORGET = 0.96
# Drafting must promise this much more than a plain step before it is done.
MARGIN = 1.05
# The most guesses a step is considered with.
MOST_GUESSES = 256
# Times are remembered for these numbers of guesses; others are counted to the nearest.
ANCHORS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
# Recent times kept an anchor. Their low median stands: a hiccup only ever makes a step longer.
RECENT = 5
# Steps for which a single time is believed; each further one of the anchor makes that 4 times more.
# So a size that looked too slow is tried again, but ever more rarely.
BELIEVED = 32


class Acceptance:
    """How often guesses came true where their parent did, by drafter and grade; of one request."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], tuple[float, float]] = {}

    def chance(self, source: str, grade: int, prior: float) -> float:
        """Mean of a Beta belief that began at the drafter's own `prior`."""
        right, tried = self._seen.get((source, grade), (0.0, 0.0))
        return (PRIOR_WEIGHT * prior + right) / (PRIOR_WEIGHT + tried)

    def chances(self, tree: Tree) -> list[float]:
        """For every node of a tree the chance that its whole path comes true."""
        found = [1.0]
        for node in range(1, len(tree)):
            own = self.chance(tree.sources[node], tree.grades[node], tree.priors[node])
            found.append(found[tree.parents[node]] * own)
        return found

    def learn(self, tree: Tree, tokens: Seq[int]) -> None:
        """Compares what was proposed with the tokens that came, whether verified or pruned.

        So a drafter that is switched off costs nothing and still earns its way back.
        """
        node: int | None = 0
        for token in tokens:
            assert node is not None
            for guess, child in tree.children[node].items():
                key = tree.sources[child], tree.grades[child]
                right, tried = self._seen.get(key, (0.0, 0.0))
                self._seen[key] = right * FORGET + (guess == token), tried * FORGET + 1
            node = tree.children[node].get(token)
            if node is None:
                return


class StepCost:
    """Seconds of a step by its number of guesses: a prior shape, corrected by what was measured.

    The shape is 1 + slope * guesses. What is kept for an anchor is time divided by shape; between
    anchors that ratio is interpolated, beyond them it stays.
    """

    def __init__(self, slope: float) -> None:
        self.slope = slope
        self._steps = 0
        self._recent: dict[int, deque[float]] = {}
        self._last: dict[int, int] = {}
        self._borrowed = False

    def borrow(self) -> StepCost:
        """A copy for another load, whose first measurement sets its scale."""
        new = StepCost(self.slope)
        for anchor in filter(self._believed, self._recent):
            new._recent[anchor] = self._recent[anchor].copy()
            new._last[anchor] = 0
        new._borrowed = bool(new._recent)
        return new

    def observe(self, guesses: int, seconds: float) -> None:
        """A step of `guesses` guesses took `seconds`. A clock that stands still says nothing."""
        if seconds <= 0:
            return
        if self._borrowed:
            scale = seconds / float(self.curve(guesses)[-1])
            for times in self._recent.values():
                times.extend([scale * times.popleft() for _ in range(len(times))])
            self._borrowed = False
        self._steps += 1
        anchor = min(ANCHORS, key=lambda a: abs(math.log1p(a) - math.log1p(guesses)))
        ratio = seconds / (1 + self.slope * guesses)
        self._recent.setdefault(anchor, deque(maxlen=RECENT)).append(ratio)
        self._last[anchor] = self._steps

    def curve(self, most: int) -> NDArray[np.float64]:
        """Expected time of 0 to `most` guesses, `[most + 1]`; relative until one is measured."""
        guesses = np.arange(most + 1, dtype=np.float64)
        shape = 1 + self.slope * guesses
        known = [a for a in ANCHORS if a in self._recent and self._believed(a)]
        if not known:
            return shape
        ratios = [median_low(self._recent[a]) for a in known]
        return np.multiply(shape, np.interp(np.log1p(guesses), np.log1p(known), ratios))

    def _believed(self, anchor: int) -> bool:
        age = self._steps - self._last[anchor]
        return bool(age <= BELIEVED * 4 ** (len(self._recent[anchor]) - 1))


@dataclass(frozen=True)
class Load:
    """What a step's time depends on besides the number of guesses.

    recipe: texts of the plans that run. rows: sequences in the batch. octave: floor(log2) of the
    tokens of all rows, plus 1.
    """

    recipe: str
    rows: int
    octave: int


class LengthPolicy(Protocol):
    """Decides what of the proposed trees is verified. clock: seconds, monotonic."""

    clock: Callable[[], float]

    def choose(self, load: Load, trees: Seq[Tree], beliefs: Seq[Acceptance]) -> list[Tree]:
        """The trees of a batch, pruned; node 0 of each always stays."""
        ...

    def observe(self, load: Load, guesses: int, seconds: float) -> None:
        """A step with so many guesses over all rows took so long, drafting not counted."""
        ...


class Goodput:
    """Maximises expected tokens per second; learns what steps cost on this machine."""

    def __init__(self, slope: float = 0.05, clock: Callable[[], float] = time.perf_counter) -> None:
        """slope: what a guess is taken to add to a step, as a share of it, until measured."""
        self.slope = slope
        self.clock = clock
        self._costs: dict[Load, StepCost] = {}

    def choose(self, load: Load, trees: Seq[Tree], beliefs: Seq[Acceptance]) -> list[Tree]:
        ranked = _ranked(trees, beliefs)[:MOST_GUESSES]
        seconds = self.cost(load).curve(len(ranked)).tolist()
        best, tokens = 0, float(len(trees))
        rate = MARGIN * tokens / seconds[0]
        # Costs may have steps, so all sizes are compared instead of stopping at the first descent.
        for count, (chance, _, _) in enumerate(ranked, 1):
            tokens -= chance
            if tokens / seconds[count] > rate:
                best, rate = count, tokens / seconds[count]
        return _pruned(trees, ranked[:best])

    def observe(self, load: Load, guesses: int, seconds: float) -> None:
        self.cost(load).observe(guesses, seconds)

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


class Fixed:
    """Always verifies the `guesses` likeliest nodes of each tree, whatever that costs."""

    def __init__(self, guesses: int = MOST_GUESSES) -> None:
        self.guesses = guesses
        self.clock: Callable[[], float] = time.perf_counter

    def choose(self, load: Load, trees: Seq[Tree], beliefs: Seq[Acceptance]) -> list[Tree]:
        pairs = zip(trees, beliefs, strict=True)
        return [_pruned([t], _ranked([t], [b])[: self.guesses])[0] for t, b in pairs]

    def observe(self, load: Load, guesses: int, seconds: float) -> None:
        """Nothing is learned."""


def policy_for(model: Adapted) -> Goodput:
    """The goodput policy of a model, shared by its requests so that costs are learned once."""
    found = _POLICIES.get(model)
    if found is None:
        # Float32 products of a CPU grow with their rows almost at once; the others idle on weights.
        slow = model.device.type == "cpu" and model.dtype in (torch.float32, torch.float64)
        found = _POLICIES[model] = Goodput(0.14 if slow else 0.03)
    return found


_POLICIES: WeakKeyDictionary[Adapted, Goodput] = WeakKeyDictionary()


def _ranked(trees: Seq[Tree], beliefs: Seq[Acceptance]) -> list[tuple[float, int, int]]:
    """(-chance, tree, node) of all guesses, likeliest first; a parent comes before its children."""
    found = [
        (-chance, row, node)
        for row, (tree, belief) in enumerate(zip(trees, beliefs, strict=True))
        for node, chance in enumerate(belief.chances(tree))
        if node
    ]
    return sorted(found)


def _pruned(trees: Seq[Tree], ranked: Seq[tuple[float, int, int]]) -> list[Tree]:
    kept: list[list[int]] = [[0] for _ in trees]
    for _, row, node in ranked:
        kept[row].append(node)
    return [
        tree if len(nodes) == len(tree) else tree.keep(sorted(nodes))
        for tree, nodes in zip(trees, kept, strict=True)
    ]


def _distance(one: Load, other: Load) -> float:
    return abs(one.octave - other.octave) + abs(math.log2(one.rows / other.rows))
