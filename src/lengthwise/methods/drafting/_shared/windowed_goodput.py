"""Goodput beside a window: guesses by what they are worth, the window whole or not at all.

No method of its own. The tokens of Lookahead's window are seldom right. They are verified for what
the model says after them, which later guesses are made of. What they are worth is what those
guesses bring:

    verify the window while   tokens a step that its guesses bring  >=  tokens that its time costs
    tokens that its time costs = expected tokens of the step x (seconds with it / seconds without
                                 it - 1)

Both are averaged over the steps with a window, the first TRIAL of which are not judged. Where the
window does not pay it is tried again, for at most a hundredth of the time.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from lengthwise.engine.speculative.acceptance import Acceptance
from lengthwise.engine.speculative.draft_depth import DrafterView
from lengthwise.engine.speculative.draft_length import Goodput, first_slope
from lengthwise.engine.speculative.step_cost import Load
from lengthwise.engine.speculative.tree import Tree
from lengthwise.models.adapted_model import AdaptedModel

# Whose window it is, and the bucket from which its tokens have theirs.
SOURCE, WINDOW = "lookahead", 64
# Steps that a window is tried for: its rows have to be filled, and its pool has to grow.
TRIAL = 48
# Share of the time that windows which did not pay may cost.
TRYING = 0.01


@dataclass
class WindowStats:
    """What a recipe's window costs and brings a step, in tokens. steps: with a window since the
    trial began; idle: seconds without one; seconds: that the window added, on average."""

    gain: float = 0.0
    price: float = 0.0
    steps: int = 0
    idle: float = 0.0
    seconds: float = 0.0

    def wanted(self, seconds: float) -> bool:
        """Whether the window is verified in a step that takes so long without it."""
        if self.steps < TRIAL or self.gain >= self.price:
            return True
        self.idle += seconds
        if self.idle * TRYING < TRIAL * self.seconds:
            return False
        self.gain = self.price = self.idle = self.seconds = 0.0
        self.steps = 0
        return True

    def note(self, gain: float, price: float, seconds: float) -> None:
        """A step with the window."""
        self.steps += 1
        weight = max(1 / self.steps, 1 / TRIAL)
        self.gain += weight * (gain - self.gain)
        self.price += weight * (price - self.price)
        self.seconds += weight * (seconds - self.seconds)


class WindowedGoodput(Goodput):
    """Goodput for everything but windows."""

    def __init__(self, slope: float = 0.05) -> None:
        super().__init__(slope)
        self._window: dict[str, WindowStats] = {}
        # Of the last step with a window: its price and seconds, by load.
        self._paid: dict[Load, tuple[float, float]] = {}
        self._won: dict[Load, int] = {}

    def choose(self, load: Load, trees: Seq[Tree], acceptances: Seq[Acceptance]) -> list[Tree]:
        stats = self._window.setdefault(load.recipe, WindowStats())
        won = self._won.pop(load, 0)
        if (paid := self._paid.pop(load, None)) is not None:
            stats.note(won, *paid)
        lean = [_without_window(tree) for tree in trees]
        unsure = self.cost(load).unsure
        found = super().choose(load, lean, acceptances)
        if unsure or all(len(tree) == len(other) for tree, other in zip(trees, lean, strict=True)):
            # A plain step is being measured, or nobody has a window.
            return found
        whole = [_with_window(kept, tree) for kept, tree in zip(found, trees, strict=True)]
        few, many = (sum(map(len, each)) - len(trees) for each in (found, whole))
        seconds = self.cost(load).curve(many)
        if not stats.wanted(float(seconds[few])):
            return found
        tokens = sum(
            sum(acceptance.path_probs(tree))
            for tree, acceptance in zip(found, acceptances, strict=True)
        )
        price = tokens * (float(seconds[many] / seconds[few]) - 1)
        self._paid[load] = price, float(seconds[many] - seconds[few])
        return whole

    def gained(self, load: Load, drafter: DrafterView, tokens: int) -> None:
        super().gained(load, drafter, tokens)
        if drafter.name == SOURCE:
            self._won[load] = self._won.get(load, 0) + tokens


def _of_window(tree: Tree, node: int) -> bool:
    return tree.sources[node] == SOURCE and tree.buckets[node] >= WINDOW


def _without_window(tree: Tree) -> Tree:
    """A tree of what is guessed otherwise, or by others too, and of all above it."""
    kept = {0}
    for node in range(len(tree) - 1, 0, -1):
        if node in kept or not _of_window(tree, node) or tree.agreed[node]:
            kept.update((node, tree.parents[node]))
    return tree if len(kept) == len(tree) else tree.keep(sorted(kept))


def _with_window(kept: Tree, tree: Tree) -> Tree:
    """What was kept of a tree, and the tree's whole window."""
    found = kept.keep(range(len(kept)))
    for node in range(1, len(tree)):
        if _of_window(tree, node):
            at = 0
            for step in tree.path(node)[1:]:
                at = found.add(
                    at, tree.tokens[step], tree.sources[step], tree.buckets[step], tree.priors[step]
                )
    return found


def windowed_policy(model: AdaptedModel) -> WindowedGoodput:
    """The policy of a model, shared by its requests so that costs are learned once."""
    if model not in _POLICIES:
        _POLICIES[model] = WindowedGoodput(first_slope(model))
    return _POLICIES[model]


_POLICIES: WeakKeyDictionary[AdaptedModel, WindowedGoodput] = WeakKeyDictionary()


__all__ = ["SOURCE", "TRIAL", "WINDOW", "WindowStats", "WindowedGoodput", "windowed_policy"]
