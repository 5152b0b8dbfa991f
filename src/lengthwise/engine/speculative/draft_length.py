"""How many guesses to verify: as many as pay on this machine, none included.

Drafters propose freely; a policy prunes their trees before the forward. Goodput (after SmartSpec,
Liu et al. 2024, arXiv 2406.14066) maximises expected tokens per second

    rate(g) = (rows + sum of the g highest chances) / seconds(g),   g = 0, 1, 2, ...

where a node's chance is that of its whole path coming true, and seconds(g) is the measured time of
a step with g guesses. Ours ranks nodes of all trees of a batch in one list, so one node budget goes
where it is worth most, whoever guessed.

What may be pruned: where nobody draws, anything for any reason, for every token is chosen by the
noise of its position whether it was guessed or not. Where somebody draws, what was drawn stays, and
the rest may go for any reason that knows nothing of the noise of a token not yet said: a guess that
goes leaves the token below it to the next round, which may draw it. `Tree.drawing` tells drafters,
so that no guess holds that noise and policies need not look.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence as Seq, Set
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.drafter_stats import Worth
from lengthwise.engine.speculative.step_cost import Load, StepCost
from lengthwise.engine.speculative.tree import Tree

if TYPE_CHECKING:
    from lengthwise.engine.roles import Drafter
    from lengthwise.models.adapt import Adapted

Method = TypeVar("Method", bound=Callable[..., Any])

# Drafting must promise this much more than a plain step before it is done.
MARGIN = 1.05
# Levels that a drafter which asks a model guesses when it is tried.
TRIED_LEVELS = 2
# A drafter that costs less than this share of a plain step is always asked.
FREE = 0.005
# The most guesses a step is considered with, and the most levels that a model is asked for.
MOST_GUESSES = 256
MOST_LEVELS = 64


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


def _locked(method: Method) -> Method:
    """A method of what has a lock, run by one thread at a time."""

    @wraps(method)
    def run(self: Goodput, *given: Any, **named: Any) -> Any:
        with self._lock:
            return method(self, *given, **named)

    return cast(Method, run)


class Goodput(LengthPolicy):
    """Maximises expected tokens per second; learns what steps and drafters cost on this machine.

    A drafter that does not pay is tried again now and then, for texts change. Threads may share
    one: what was learned is everybody's, and who was asked in a round is the thread's own.
    """

    def __init__(
        self,
        slope: float = 0.05,
        clock: Callable[[], float] = time.perf_counter,
        margin: float = MARGIN,
    ) -> None:
        """slope: what a guess is taken to add to a step, as a share of it, until measured. margin:
        how many times the speed of a plain step drafting must promise before it is done."""
        self.slope = slope
        self.clock = clock
        self.margin = margin
        self._costs: dict[Load, StepCost] = {}
        self._worth: dict[tuple[str, str], Worth] = {}
        self._population: dict[str, Acceptance] = {}
        self._lock = threading.RLock()
        self._round = threading.local()

    @property
    def _asked(self) -> list[tuple[Load, Drafter, _Judged]]:
        """Who was asked in the round of this thread."""
        found: list[tuple[Load, Drafter, _Judged]] = self._round.__dict__.setdefault("asked", [])
        return found

    def population(self, recipe: str) -> Acceptance:
        """What all requests of a recipe have seen come true."""
        with self._lock:
            return self._population.setdefault(recipe, Acceptance())

    @_locked
    def pace(
        self, load: Load, drafter: Drafter, tree: Tree, belief: Acceptance, limit: int
    ) -> Pace | None:
        worth = self._worth.setdefault((load.recipe, drafter.name), Worth())
        plain = self._plain(load)
        found: _Judged | None = None
        if not worth.trying:
            if drafter.asks_model:
                found = self._depth(load, drafter.name, worth, tree, belief, limit)
            elif not self.cost(load).known or worth.seconds <= plain * max(FREE, worth.tokens):
                found = _Judged(worth, belief, drafter.name, 1.0, limit)
            elif worth.wait(plain):
                return None
            if found is None and drafter.asks_model and worth.wait(plain):
                return None
        if found is None:
            hope = _hope(tree, belief)
            found = _Judged(worth, belief, drafter.name, hope, TRIED_LEVELS, tried=True)
            worth.trying -= 1
        self._asked.append((load, drafter, found))
        return found

    def _depth(
        self, load: Load, name: str, worth: Worth, tree: Tree, belief: Acceptance, limit: int
    ) -> _Judged | None:
        """How far a drafter that asks a model should go below a tree; None is not to ask it."""
        limit = min(limit, MOST_LEVELS)
        ranked = _ranked([tree], [belief])
        seconds = self.cost(load).curve(len(ranked) + math.ceil(limit * worth.width))
        size = _best_size(float(load.rows), ranked, seconds, self.margin)
        tokens = load.rows - sum(chance for _, chance, _, _ in ranked[:size])
        hope = chance = _hope(tree, belief)
        best, depth, verifying = self.margin * tokens / float(seconds[size]), 0, 0.0
        for level in range(1, limit + 1):
            chance *= worth.alpha
            tokens += chance
            verify = float(seconds[size + round(level * worth.width)])
            rate = tokens / (verify + level * worth.level_seconds)
            if rate > best:
                best, depth, verifying = rate, level, (verify - float(seconds[size])) / level
        if not depth:
            return None
        price = best * (worth.level_seconds + verifying)
        return _Judged(worth, belief, name, hope, limit, price)

    @_locked
    def choose(self, load: Load, trees: Seq[Tree], beliefs: Seq[Acceptance]) -> list[Tree]:
        # A round that was interrupted may have left drafters of another recipe behind.
        asked = [(drafter, pace) for at, drafter, pace in self._asked if at == load]
        self._asked.clear()
        tried = {drafter.name for drafter, pace in asked if pace.tried and drafter.asks_model}
        ranked = _ranked(trees, beliefs, tried)
        held = sum(not free for free, *_ in ranked)
        ranked = ranked[: max(held, MOST_GUESSES)]
        cost = self.cost(load)
        if cost.unsure and not held:
            return _pruned(trees, [])
        seconds = cost.curve(len(ranked))
        if cost.known:
            # Drafting is paid for already, and the dearer it was the more guesses are worth it.
            seconds = seconds + sum(pace.seconds for _, pace in asked)
        size = _best_size(float(len(trees)), ranked, seconds, self.margin)
        found = _pruned(trees, ranked[:size])
        for name in {drafter.name for drafter, pace in asked if pace.levels}:
            levels = sum(pace.levels for drafter, pace in asked if drafter.name == name)
            nodes = sum(tree.sources.count(name) for tree in found)
            worth = self._worth[load.recipe, name]
            worth.width += 0.2 * (max(1.0, nodes / levels) - worth.width)
        return found

    @_locked
    def observe(self, load: Load, guesses: int, seconds: float) -> None:
        self.cost(load).observe(guesses, seconds)

    @_locked
    def drafted(self, load: Load, drafter: Drafter, levels: int, seconds: float) -> None:
        self._worth[load.recipe, drafter.name].note_time(levels, seconds)

    @_locked
    def gained(self, load: Load, drafter: Drafter, tokens: int) -> None:
        worth, pace = self._worth[load.recipe, drafter.name], drafter.pace
        if isinstance(pace, _Judged):
            worth.note_gain(tokens, pace.beliefs, pace.hope)
            if pace.tried and tokens * self._plain(load) > pace.seconds:
                # Who pays for itself is asked once more, until it is known what it is worth.
                worth.trying = max(1, worth.trying)

    def _plain(self, load: Load) -> float:
        """Seconds that a token takes without drafting."""
        return float(self.cost(load).curve(0)[0]) / load.rows

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
    """Always verifies the `guesses` likeliest nodes of each tree, whatever that costs.

    Nodes that were drawn are verified all the same: leaving out some for what they are would be
    lossy.
    """

    def __init__(self, guesses: int = MOST_GUESSES) -> None:
        self.guesses = guesses

    def pace(
        self, load: Load, drafter: Drafter, tree: Tree, belief: Acceptance, limit: int
    ) -> Pace | None:
        return UpTo(self.guesses) if self.guesses else None

    def choose(self, load: Load, trees: Seq[Tree], beliefs: Seq[Acceptance]) -> list[Tree]:
        found = []
        for tree, belief in zip(trees, beliefs, strict=True):
            ranked = _ranked([tree], [belief])
            drawn = sum(not free for free, *_ in ranked)
            found += _pruned([tree], ranked[: max(drawn, self.guesses)])
        return found


class UpTo(Pace):
    """Goes `most` levels deep."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def go_on(self, grade: int, prior: float, state: Tensor | None = None) -> bool:
        return super().go_on(grade, prior, state) and self.levels < self.most


class _Judged(UpTo):
    """Another level is guessed while the tokens it may bring come faster than the others do.

    hope: the chance that the first level is needed. price: the tokens that the seconds of a level,
    its verification included, bring otherwise. tried: asked to see what it is worth. beliefs: the
    chance of the best guess of each level.
    """

    def __init__(
        self, worth: Worth, belief: Acceptance, source: str, hope: float, most: int,
        price: float = -1.0, tried: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(most)
        self.worth, self.belief, self.source = worth, belief, source
        self.hope, self.price, self.tried = hope, price, tried
        self.chance = hope
        self.beliefs: list[float] = []

    @property
    def seconds(self) -> float:
        """What this drafting is taken to have cost."""
        return self.worth.level_seconds * self.levels if self.levels else self.worth.seconds

    def go_on(self, grade: int, prior: float, state: Tensor | None = None) -> bool:
        self.beliefs.append(self.belief.average(self.source, grade, prior))
        self.chance *= self.worth.chance(self.beliefs[-1])
        further = super().go_on(grade, prior, state)
        return further and self.chance * self.worth.alpha > self.price


def policy_for(model: Adapted, margin: float = MARGIN) -> Goodput:
    """The goodput policy of a model at a margin, shared by its requests so that costs are learned
    once."""
    with _MAKING:
        policies = _POLICIES.setdefault(model, {})
        if margin not in policies:
            policies[margin] = Goodput(first_slope(model), margin=margin)
        return policies[margin]


def first_slope(model: Adapted) -> float:
    """What a guess is taken to add to a step of a model, as a share of it, until measured."""
    # Float32 products of a CPU grow with their rows almost at once; the others idle on weights.
    slow = model.device.type == "cpu" and model.dtype in (torch.float32, torch.float64)
    return 0.14 if slow else 0.05


_POLICIES: WeakKeyDictionary[Adapted, dict[float, Goodput]] = WeakKeyDictionary()
_MAKING = threading.Lock()


Ranked = list[tuple[bool, float, int, int]]


def _ranked(trees: Seq[Tree], beliefs: Seq[Acceptance], tried: Set[str] = frozenset()) -> Ranked:
    """(free, -chance, tree, node) of all guesses: first those that are verified whatever they say,
    because they were drawn or their source is being tried, then the likeliest; a parent comes
    before its children."""
    found = []
    for row, (tree, belief) in enumerate(zip(trees, beliefs, strict=True)):
        held = tree.drawn()
        if tried:
            held |= tree.above(n for n, source in enumerate(tree.sources) if source in tried)
        for node, chance in enumerate(belief.chances(tree)):
            if node:
                found.append((node not in held, -chance, row, node))
    return sorted(found)


def _hope(tree: Tree, belief: Acceptance) -> float:
    """The chance that none of the guesses of the next token is right."""
    chances = belief.chances(tree)
    return max(0.0, 1 - sum(chances[node] for node in tree.children[0].values()))


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


def capped(tree: Tree, before: int, belief: Acceptance, most: int = MOST_GUESSES) -> Tree:
    """A tree with the likeliest `most` of the guesses from node `before` on, and all draws."""
    if len(tree) - before <= most:
        return tree
    ranked = [each for each in _ranked([tree], [belief]) if each[-1] >= before]
    held = sum(not free for free, *_ in ranked)
    kept = {node for *_, node in ranked[: max(held, most)]}
    return tree.keep([*range(before), *sorted(kept)])


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
