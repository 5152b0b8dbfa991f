"""Guesses of what comes next, as a trie whose root is the last committed token.

Node 0 is the root, which is committed but not yet in the cache; every other node is a guess. A
guess is deterministic unless it was drawn: then the law it was drawn from is kept, and a verifier
may accept it by comparing that law with the target's. That law may be forgotten for any reason but
the tokens that were drawn and the noise that will settle them (see `draw`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index

import torch
from torch import Tensor

from lengthwise.errors import LengthwiseError


@dataclass(frozen=True)
class Draws:
    """Children of one node that were drawn without replacement, in that order.

    law: the drafter's probabilities `[vocab]` for the first of them, as processed for sampling.
    """

    law: Tensor
    nodes: tuple[int, ...]


class Tree:
    """tokens, parents and depths of the nodes, in the order they were added (parents first).

    sources: who guessed a node first; seconded: whether somebody else guessed it too. grades: kinds
    of guesses of a drafter whose acceptance is counted together. priors: the drafter's own chance
    that a node comes true if its parent does. draws: by parent. mixed: whether a node's children
    have several sources. drawing: somebody draws, in this tree or beside it, so no guess may follow
    the noise that the target will choose with. author: the drafter that is adding guesses, which
    are its own whatever it calls their source; a name of its own may follow, as in "rasd
    retrieved".
    """

    def __init__(self, root: int, drawing: bool = False) -> None:
        self.tokens = [root]
        self.parents = [-1]
        self.depths = [0]
        self.children: list[dict[int, int]] = [{}]
        self.sources: list[str] = [""]
        self.seconded = [False]
        self.grades = [0]
        self.priors = [1.0]
        self.mixed = [False]
        self.draws: dict[int, list[Draws]] = {}
        self.drawing = drawing
        self.author = ""

    def __len__(self) -> int:
        return len(self.tokens)

    def add(
        self, parent: int, token: int, source: str = "", grade: int = 0, prior: float = 0.5
    ) -> int:
        """Adds a guess below a node, or finds it there; returns its number.

        Raises LengthwiseError where the token is no whole number or there is no such node.
        """
        try:
            token = int(index(token))
        except TypeError:
            raise LengthwiseError(
                f"it guessed token {token!r}, and a token is a whole number"
            ) from None
        if not 0 <= parent < len(self.tokens):
            raise LengthwiseError(
                f"it guessed below node {parent} of a tree of {len(self.tokens)} nodes"
            )
        if self.author and source != self.author and not source.startswith(self.author + " "):
            source = self.author
        beside = self.children[parent]
        node = beside.get(token)
        if node is None:
            node = len(self.tokens)
            if beside and self.sources[next(iter(beside.values()))] != source:
                self.mixed[parent] = True
            self.tokens.append(token)
            self.parents.append(parent)
            self.depths.append(self.depths[parent] + 1)
            self.children.append({})
            self.sources.append(source)
            self.seconded.append(False)
            self.grades.append(grade)
            self.priors.append(prior)
            self.mixed.append(False)
            beside[token] = node
        elif self.sources[node] != source:
            self.seconded[node] = True
        return node

    def add_chain(self, tokens: Sequence[int], parent: int = 0, source: str = "") -> None:
        for token in tokens:
            parent = self.add(parent, token, source)

    def draw(
        self, parent: int, tokens: Sequence[int], law: Tensor, source: str, grades: Sequence[int]
    ) -> list[int]:
        """Adds tokens drawn from a law without replacement, in that order; returns their nodes.

        law: probabilities `[vocab]`. What is drawn must be verified, or the whole draw treated as
        guesses, whatever the tokens are: a draw that is forgotten because of its tokens leaves
        those behind that are not, and they no longer have their law.
        """
        self.drawing = True
        chances = [float(law[token]) for token in tokens]
        nodes = [
            self.add(parent, token, source, grade, chance)
            for token, grade, chance in zip(tokens, grades, chances, strict=True)
        ]
        self.draws.setdefault(parent, []).append(Draws(law, tuple(nodes)))
        return nodes

    def drawn(self) -> set[int]:
        """Nodes that were drawn, and all above them: what must not be pruned by its value."""
        groups = (group for groups in self.draws.values() for group in groups)
        return self.above(node for group in groups for node in group.nodes)

    def above(self, nodes: Iterable[int]) -> set[int]:
        """Nodes and all above them, the root always; each is visited once."""
        found = {0}
        for node in nodes:
            while node not in found:
                found.add(node)
                node = self.parents[node]
        return found

    def keep(self, nodes: Sequence[int]) -> Tree:
        """A tree of these nodes, ascending, the root and every parent among them.

        Draws that lose a node become ordinary guesses.
        """
        new = Tree(self.tokens[0], self.drawing)
        names = {0: 0}
        for node in nodes[1:]:
            names[node] = new.add(names[self.parents[node]], self.tokens[node], self.sources[node],
                                  self.grades[node], self.priors[node])  # fmt: skip
            new.seconded[-1] = self.seconded[node]
        for parent, groups in self.draws.items():
            whole = [
                Draws(group.law, tuple(names[node] for node in group.nodes))
                for group in groups
                if all(node in names for node in group.nodes)
            ]
            if whole:
                new.draws[names[parent]] = whole
        return new

    def below(self, tokens: Sequence[int]) -> Tree:
        """This tree's tokens hung below a chain of others; node n becomes node n + len(tokens)."""
        if not tokens:
            return self.keep(range(len(self)))
        new = Tree(tokens[0])
        new.add_chain([*tokens[1:], self.tokens[0]])
        for node in range(1, len(self)):
            new.add(self.parents[node] + len(tokens), self.tokens[node], self.sources[node])
        return new

    @property
    def height(self) -> int:
        """Tokens of its longest path, the root among them."""
        return max(self.depths) + 1

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
