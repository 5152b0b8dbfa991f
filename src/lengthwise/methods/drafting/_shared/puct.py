"""Searching a table of what follows two tokens as a game is searched, for ADED.

No method of its own. Both searches descend from the last two tokens of the text by

    argmax_a  Q(s,a) + c(s) P(a|s) sqrt(N(s)) / (1 + N(s,a))
    with      c(s) = c1 + log((N(s) + c2 + 1) / c2)

and give the paths they visited most often. They differ in what a path is worth, and in how a node
that was not visited before is entered:

    sums      the authors' code: value 1 + the sum of P along the path and a random walk on from its
              end; all successors of a node are entered once before any is entered twice; c1 = 32
    products  value the product of P along the path, which is the probability that it comes true;
              likelier successors are entered first, and the others where they score; c1 = 1.25

With c1 = 32 the sums search follows P almost everywhere. With 1.25 what was found counts as well.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, field

# What may follow a pair (before, token): tokens and weights, heaviest first.
Row = Callable[[int, int], tuple[list[int], list[float]]]
# The node of its parent (0 is the root, i + 1 the i-th guess), the token and its weight.
DraftToken = tuple[int, int, float]

# Of the authors' code: constants of the score, and paths given by a search.
SUMS_C1, SUMS_C2, PATHS = 32.0, 8.0, 24
# Of AlphaZero.
PRODUCTS_C1, PRODUCTS_C2 = 1.25, 19652.0


@dataclass(slots=True)
class Node:
    """A token that may come: its P, what may follow it, and what is known of it by now.

    children: successors that were entered, always the first ones. value: summed over visits.
    """

    before: int
    token: int
    weight: float
    parent: Node | None
    children: list[Node] = field(default_factory=list)
    visits: int = 0
    value: float = 0.0
    _row: tuple[list[int], list[float]] | None = None

    def row(self, table: Row) -> tuple[list[int], list[float]]:
        """What may follow, looked up at the first visit: most nodes never have one."""
        if self._row is None:
            self._row = table(self.before, self.token)
        return self._row

    def enter(self, rank: int, table: Row) -> Node:
        """The successor of a rank, entered for the first time."""
        tokens, weights = self.row(table)
        self.children.append(Node(self.token, tokens[rank], weights[rank], self))
        return self.children[rank]

    def credit(self, value: float) -> None:
        """Counts a visit here and at all nodes above."""
        above: Node | None = self
        while above is not None:
            above.visits += 1
            above.value += value
            above = above.parent


def search_sums(
    before: int, token: int, table: Row, depth: int, simulations: int, rng: random.Random
) -> list[DraftToken]:
    """The paths of the search of the authors' code: PATHS of them, the root's own among them, each
    followed by its heaviest successor; up to `depth` tokens deep, parents first."""
    root = Node(before, token, 1.0, None)
    # The last token of a path is not searched for.
    levels = max(1, depth - 1)
    found: list[Node] = []
    if not depth or not root.row(table)[0]:
        return []
    for _ in range(simulations):
        node, level, value = root, 0, 1.0
        while level < levels:
            tokens = node.row(table)[0]
            if not tokens:
                break
            entered = len(node.children)
            fresh = entered < len(tokens)
            node = node.enter(entered, table) if fresh else _best(node, SUMS_C1, SUMS_C2)
            value += node.weight
            level += 1
            if fresh:
                found.append(node)
                break
        node.credit(value + _walk(node, levels - level, table, rng))
    found.sort(key=lambda each: -each.visits)
    return _extended(root, found[: PATHS - 1], table, depth)


def _walk(node: Node, steps: int, table: Row, rng: random.Random) -> float:
    """The sum of P along a random walk from a node."""
    total, before, token = 0.0, node.before, node.token
    row = node.row(table)
    for step in range(steps):
        if step:
            row = table(before, token)
        if not row[0]:
            break
        rank = rng.choices(range(len(row[1])), row[1])[0]
        total += row[1][rank]
        before, token = token, row[0][rank]
    return total


def _best(node: Node, c1: float, c2: float) -> Node:
    """The successor of the highest score, of those that were entered."""
    visits = node.visits
    explore = (c1 + math.log((visits + c2 + 1) / c2)) * math.sqrt(visits)
    best, highest = node.children[0], -1.0
    for child in node.children:
        score = child.value / child.visits + explore * child.weight / (1 + child.visits)
        if score > highest:
            best, highest = child, score
    return best


def _extended(root: Node, nodes: Seq[Node], table: Row, depth: int) -> list[DraftToken]:
    """The guesses of nodes, each with its heaviest successor where that is not too deep."""
    guesses: list[DraftToken] = []
    numbers: dict[int, int] = {id(root): 0}
    depths = {id(root): 0}
    for node in nodes:
        assert node.parent is not None
        guesses.append((numbers[id(node.parent)], node.token, share(node.parent, node.weight)))
        numbers[id(node)] = len(guesses)
        depths[id(node)] = depths[id(node.parent)] + 1
    known = {(parent, token) for parent, token, _ in guesses}
    for node in nodes:
        tokens, weights = node.row(table)
        number = numbers[id(node)]
        if tokens and depths[id(node)] < depth and (number, tokens[0]) not in known:
            guesses.append((number, tokens[0], share(node, weights[0])))
    return guesses


def share(node: Node, weight: float) -> float:
    """The probability that a weight of a node's successors stands for: weights that learned from
    the text may add up to more than 1."""
    total = sum(node._row[1]) if node._row is not None else 1.0
    return weight / max(1.0, total)


def search_products(
    before: int, token: int, table: Row, depth: int, simulations: int
) -> list[DraftToken]:
    """The most visited nodes of a search for likely paths: at most one new one a descent."""
    root = Node(before, token, 1.0, None, visits=1)
    found: list[Node] = []
    if not depth or not root.row(table)[0]:
        return []
    for _ in range(simulations):
        node, prob, level = root, 1.0, 0
        while level < depth and node.row(table)[0]:
            known, best = len(node.children), _choose(node, table)
            node = node.enter(best, table) if best == known else node.children[best]
            prob *= share(node.parent, node.weight) if node.parent else 1.0
            level += 1
            if best == known:
                found.append(node)
                break
        node.credit(prob)
    # No child is visited more often than its parent, nor found before it.
    found.sort(key=lambda each: -each.visits)
    return _extended(root, found, table, 0)


def _choose(node: Node, table: Row) -> int:
    """The successor of the highest score; of those not looked at yet only the likeliest counts."""
    passed = node.visits - 1
    explore = (PRODUCTS_C1 + math.log((passed + PRODUCTS_C2 + 1) / PRODUCTS_C2)) * math.sqrt(passed)
    best, highest = -1, -1.0
    for rank, child in enumerate(node.children):
        score = child.value / child.visits + explore * child.weight / (1 + child.visits)
        if score > highest:
            best, highest = rank, score
    known = len(node.children)
    tokens, weights = node.row(table)
    if known < len(tokens) and explore * weights[known] > highest:
        best = known
    return best


__all__ = ["PATHS", "DraftToken", "Node", "Row", "search_products", "search_sums", "share"]
