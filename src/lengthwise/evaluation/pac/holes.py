"""Which nodes of a program are kept: as many as a budget of doubt pays for, with few holes.

"PAC Prediction Sets for Large Language Models of Code" (Khakhar, Mell and Bastani, ICML 2023,
arXiv:2302.08703). Of a tree whose nodes have negative log-likelihoods c_i, and a threshold t,

    maximise    number of kept nodes
    subject to  sum of c_i over kept nodes <= -log t
                a kept node's parent is kept
                at most m holes: nodes left out whose parent is kept

and what is kept at a threshold is kept at every less strict one. The paper solves it as an integer
programme for all thresholds at once (with z3). Ours is a dynamic programme over the tree, exact for
one threshold: of each subtree the least doubt by (holes, nodes kept). It goes from strict to less
strict, and what was kept stays kept. A root that is left out is a hole too.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
from numpy.typing import NDArray

from lengthwise.evaluation.pac.program_tree import ProgramNode

Table = NDArray[np.float64]

# Thresholds that are tried, as sums of nats (-log t), the strictest first: fixed before any data is
# seen, or the guarantee would not hold. At the last one all is kept.
BUDGETS = (*(round(0.01 * 1.25**step, 4) for step in range(45)), float("inf"))
# The released code's; the paper also shows more.
HOLES = 1


class Tree:
    """A tree as its dynamic programme sees it: nodes in preorder.

    parents: of each node, -1 of the root. costs: nats. values: what keeping a node is worth, a
    whole number.
    """

    def __init__(self, parents: Seq[int], costs: Seq[float], values: Seq[int]) -> None:
        self.parents, self.costs, self.values = list(parents), list(costs), list(values)
        self.children: list[list[int]] = [[] for _ in parents]
        for node, parent in enumerate(parents):
            if parent >= 0:
                self.children[parent].append(node)

    def tables(self, holes: int, forced: Seq[bool]) -> list[list[Table]]:
        """Of each node kept, and its first 0, 1, .. children: the least cost of its subtree,
        `[holes + 1, value + 1]`, infinite where there is none.

        Args:
            holes: at most.
            forced: nodes that must be kept.
        """
        needed = list(forced)
        for node in range(len(self.parents) - 1, 0, -1):
            needed[self.parents[node]] |= needed[node]
        found: list[list[Table]] = [[] for _ in self.parents]
        for node in range(len(self.parents) - 1, -1, -1):
            own = np.full((holes + 1, self.values[node] + 1), np.inf)
            own[0, -1] = self.costs[node]
            found[node].append(own)
            for child in self.children[node]:
                own = _joined(own, _of_child(found[child][-1], needed[child]))
                found[node].append(own)
        return found


def _of_child(kept: Table, needed: bool) -> Table:
    """A child kept, or left out as one hole."""
    found = kept.copy()
    if not needed and len(found) > 1:
        found[1, 0] = min(found[1, 0], 0.0)
    return found


def _joined(one: Table, two: Table) -> Table:
    """The least sums of two tables by the sums of their holes and values."""
    holes, width = len(one), one.shape[1] + two.shape[1] - 1
    found = np.full((holes, width), np.inf)
    for first in range(holes):
        for second in range(holes - first):
            sums = one[first][:, None] + two[second][None]
            for row, line in enumerate(sums):
                place = found[first + second, row : row + len(line)]
                np.minimum(place, line, out=place)
    return found


def keep(tree: Tree, budget: float, holes: int, forced: Seq[bool] | None = None) -> list[bool]:
    """The nodes that are kept at one threshold.

    Args:
        tree: of one node or more.
        budget: nats that the kept nodes may cost.
        holes: at most, one or more.
        forced: nodes that must be kept; None are none.
    """
    given = [False] * len(tree.parents) if forced is None else list(forced)
    tables = tree.tables(holes, given)
    found = [False] * len(tree.parents)
    whole = tables[0][-1]
    fits = np.argwhere(whole <= budget)
    if not len(fits):
        return found
    # Most value, then least cost, then fewest holes.
    hole, value = min(fits.tolist(), key=lambda at: (-at[1], whole[at[0], at[1]], at[0]))
    if not value and not any(given):
        return found
    _follow(tree, tables, given, found, hole, value)
    return found


def _follow(
    tree: Tree, tables: list[list[Table]], forced: list[bool], found: list[bool], hole: int,
    value: int,
) -> None:  # fmt: skip
    """Marks the nodes of a solution as kept."""
    waiting = [(0, hole, value)]
    while waiting:
        node, holes_left, value_left = waiting.pop()
        found[node] = True
        for number in range(len(tree.children[node]) - 1, -1, -1):
            child = tree.children[node][number]
            before, below = tables[node][number], tables[child][-1]
            wanted = tables[node][number + 1][holes_left, value_left]
            holes_left, value_left, taken = _step(before, below, holes_left, value_left, wanted)
            if taken is not None:
                waiting.append((child, *taken))


def _step(
    before: Table, below: Table, holes: int, value: int, wanted: float
) -> tuple[int, int, tuple[int, int] | None]:
    """What is left for the children before one, and what that one takes; None leaves it out."""
    for h in range(holes + 1):
        for v in range(min(value, below.shape[1] - 1) + 1):
            rest = (holes - h, value - v)
            if rest[1] < before.shape[1] and before[rest] + below[h, v] == wanted:
                return (*rest, (h, v))
    return holes - 1, value, None


def tree_of(program: ProgramNode) -> Tree:
    """The tree of a program; a node counts that has a token of the model's own.

    Args:
        program: whose nodes were weighed.
    """
    nodes = program.preorder()
    place = {id(node): number for number, node in enumerate(nodes)}
    parents = [-1] * len(nodes)
    for node in nodes:
        for child in node.children:
            parents[place[id(child)]] = place[id(node)]
    return Tree(parents, [node.nll for node in nodes], [int(node.tokens > 0) for node in nodes])


def nested(tree: Tree, holes: int = HOLES, budgets: Seq[float] = BUDGETS) -> list[list[bool]]:
    """What is kept at every threshold: never less than at a stricter one.

    Args:
        tree: of one node or more.
        holes: at most.
        budgets: nats, ascending.
    """
    found: list[list[bool]] = []
    kept, cost_next = [False] * len(tree.parents), -np.inf
    for budget in budgets:
        if budget >= cost_next:
            kept = keep(tree, budget, holes, kept)
            cost_next = _next(tree, holes, kept)
        found.append(kept)
    return found


def _next(tree: Tree, holes: int, kept: list[bool]) -> float:
    """The least budget at which more is kept than now; infinite where all is."""
    whole = tree.tables(holes, kept)[0][-1]
    now = sum(value for value, keep in zip(tree.values, kept, strict=True) if keep)
    more = whole[:, now + 1 :]
    if any(kept):
        return float(more.min(initial=np.inf))
    return float(whole.min(initial=np.inf))


__all__ = ["BUDGETS", "HOLES", "Tree", "keep", "nested", "tree_of"]
