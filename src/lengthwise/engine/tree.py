"""Guesses of what comes next, as a trie whose root is the last committed token, and their verdict.

Node 0 is the root, which is committed but not yet in the cache; every other node is a guess. Nodes
here are deterministic: any guess at all is lossless, because the target's own choice is drawn first
and merely looked up among a node's children.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Tree:
    """tokens, parents and depths of the nodes, in the order they were added (parents first).

    sources: who guessed a node first. grades: kinds of guesses of a drafter whose acceptance is
    counted together. priors: the drafter's own chance that a node comes true if its parent does.
    """

    def __init__(self, root: int) -> None:
        self.tokens = [root]
        self.parents = [-1]
        self.depths = [0]
        self.children: list[dict[int, int]] = [{}]
        self.sources: list[str] = [""]
        self.grades = [0]
        self.priors = [1.0]

    def __len__(self) -> int:
        return len(self.tokens)

    def add(
        self, parent: int, token: int, source: str = "", grade: int = 0, prior: float = 0.5
    ) -> int:
        """Adds a guess below a node, or finds it there; returns its number."""
        node = self.children[parent].get(token)
        if node is None:
            node = len(self.tokens)
            self.tokens.append(token)
            self.parents.append(parent)
            self.depths.append(self.depths[parent] + 1)
            self.children.append({})
            self.sources.append(source)
            self.grades.append(grade)
            self.priors.append(prior)
            self.children[parent][token] = node
        return node

    def add_chain(self, tokens: Sequence[int], parent: int = 0, source: str = "") -> None:
        for token in tokens:
            parent = self.add(parent, token, source)

    def keep(self, nodes: Sequence[int]) -> Tree:
        """A tree of these nodes, ascending, the root and every parent among them."""
        new = Tree(self.tokens[0])
        names = {0: 0}
        for node in nodes[1:]:
            names[node] = new.add(names[self.parents[node]], self.tokens[node], self.sources[node],
                                  self.grades[node], self.priors[node])  # fmt: skip
        return new

    def is_chain(self) -> bool:
        return all(parent == node - 1 for node, parent in enumerate(self.parents))

    def path(self, node: int) -> list[int]:
        """Nodes from the root to a node, both included."""
        found = []
        while node >= 0:
            found.append(node)
            node = self.parents[node]
        return found[::-1]

    def ancestors(self) -> Tensor:
        """Bool `[nodes, nodes]`: row t is True at t and everything above it."""
        mask = torch.zeros(len(self), len(self), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                mask[node] = mask[parent]
            mask[node, node] = True
        return mask


def verify(tree: Tree, choose: Callable[[int, list[int]], int]) -> tuple[list[int], int]:
    """Walks the tree along the target's own choices.

    choose(node, path tokens below the root) draws the target's next token after a node. Returns the
    accepted nodes (root first) and the token that follows them, which was drawn but not guessed.
    """
    accepted = [0]
    below: list[int] = []
    while True:
        token = choose(accepted[-1], below)
        child = tree.children[accepted[-1]].get(token)
        if child is None:
            return accepted, token
        accepted.append(child)
        below.append(token)
