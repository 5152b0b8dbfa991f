"""Guesses of what comes next, as a trie whose root is the last committed token.

    root  the      node 0: committed, not yet in the cache
     |-- cat       node 1: a guess
     |    `-- sat  node 2: a guess, should node 1 be right
     `-- dog       node 3

A guess is deterministic unless it was drawn. Of a draw the drafter's distribution is kept, and a
verifier may accept the token by comparing it with the target's. That distribution may be forgotten
for any reason but the tokens that were drawn and the noise that will settle them (see `draw`).
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

    probs: the drafter's probabilities `[vocab]` for the first of them, as processed for sampling.
    """

    probs: Tensor
    nodes: tuple[int, ...]


class Tree:
    """Nodes in the order they were added, parents first; each list has an entry a node.

    tokens, parents, depths, children: what the tree is.
    sources: the drafter that guessed a node first. agreed: whether another guessed it too.
    buckets: kinds of guesses of a drafter whose acceptance is counted together.
    priors: the drafter's own probability that a node is right if its parent is.
    mixed: whether a node's children have several sources.
    draws: what was drawn, by parent.
    drawing: somebody draws, in this tree or beside it, so no guess may follow the noise that the
    target will choose with.
    author: the drafter that is adding guesses, which are its own whatever it calls their source; a
    name of its own may follow, as in "rasd retrieved".
    """

    def __init__(self, root: int, drawing: bool = False) -> None:
        self.tokens = [root]
        self.parents = [-1]
        self.depths = [0]
        self.children: list[dict[int, int]] = [{}]
        self.sources: list[str] = [""]
        self.agreed = [False]
        self.buckets = [0]
        self.priors = [1.0]
        self.mixed = [False]
        self.draws: dict[int, list[Draws]] = {}
        self.drawing = drawing
        self.author = ""

    def __len__(self) -> int:
        return len(self.tokens)

    def add(
        self, parent: int, token: int, source: str = "", bucket: int = 0, prior: float = 0.5
    ) -> int:
        """Adds a guess below a node, or finds it there.

        Args:
            parent: the node it follows; 0 is the root.
            token: what is guessed.
            source: the drafter's name.
            bucket: the kind of guess; acceptance is learned for each by itself.
            prior: the drafter's own probability that it is right if the parent is.

        Returns:
            The number of the node.

        Raises:
            LengthwiseError: where the token is no whole number, or there is no such parent.
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
            if beside and self.sources[next(iter(beside.values()))] != source:
                self.mixed[parent] = True
            node = beside[token] = self._append(parent, token, source, bucket, prior)
        elif self.sources[node] != source:
            self.agreed[node] = True
        return node

    def _append(self, parent: int, token: int, source: str, bucket: int, prior: float) -> int:
        self.tokens.append(token)
        self.parents.append(parent)
        self.depths.append(0 if parent < 0 else self.depths[parent] + 1)
        self.children.append({})
        self.sources.append(source)
        self.agreed.append(False)
        self.buckets.append(bucket)
        self.priors.append(prior)
        self.mixed.append(False)
        return len(self.tokens) - 1

    def add_root(self, token: int) -> int:
        """Adds a root beside the first, which sees nothing of it.

        Branches behind one text are such a tree (`engine/branches.py`). It is scored, not verified.

        Args:
            token: its id.

        Returns:
            The number of the node.
        """
        return self._append(-1, token, "", 0, 1.0)

    def add_chain(self, tokens: Sequence[int], parent: int = 0, source: str = "") -> None:
        """Adds guesses that follow each other.

        Args:
            tokens: first to last.
            parent: the node that the first follows; 0 is the root.
            source: the drafter's name.
        """
        for token in tokens:
            parent = self.add(parent, token, source)

    def draw(
        self, parent: int, tokens: Sequence[int], probs: Tensor, source: str, buckets: Sequence[int]
    ) -> list[int]:
        """Adds tokens drawn without replacement, in the order of the draws.

        What is drawn must be verified, or the whole draw treated as guesses, whatever the tokens
        are. If a draw were forgotten because of its tokens, those that are not forgotten would no
        longer have their distribution.

        Args:
            parent: the node that they follow.
            tokens: what was drawn.
            probs: that the first was drawn from, `[vocab]`. They are the priors too.
            source: the drafter's name.
            buckets: the kind of guess, for each token.

        Returns:
            The nodes, in the order of the tokens.
        """
        self.drawing = True
        priors = [float(probs[token]) for token in tokens]
        nodes = [
            self.add(parent, token, source, bucket, prior)
            for token, bucket, prior in zip(tokens, buckets, priors, strict=True)
        ]
        self.draws.setdefault(parent, []).append(Draws(probs, tuple(nodes)))
        return nodes

    def drawn(self) -> set[int]:
        """Nodes that were drawn, and all above them: what must not be pruned by its value."""
        groups = (group for groups in self.draws.values() for group in groups)
        return self.above(node for group in groups for node in group.nodes)

    def above(self, nodes: Iterable[int]) -> set[int]:
        """Nodes and all above them, the root always; each is visited once.

        Args:
            nodes: in any order.
        """
        found = {0}
        for node in nodes:
            while node not in found:
                found.add(node)
                node = self.parents[node]
        return found

    def keep(self, nodes: Sequence[int]) -> Tree:
        """A tree of some of the nodes. Draws that lose a node become ordinary guesses.

        Args:
            nodes: ascending, the root and every parent among them.
        """
        new = Tree(self.tokens[0], self.drawing)
        names = {0: 0}
        for node in nodes[1:]:
            names[node] = new.add(names[self.parents[node]], self.tokens[node], self.sources[node],
                                  self.buckets[node], self.priors[node])  # fmt: skip
            new.agreed[-1] = self.agreed[node]
        for parent, groups in self.draws.items():
            whole = [
                Draws(group.probs, tuple(names[node] for node in group.nodes))
                for group in groups
                if all(node in names for node in group.nodes)
            ]
            if whole:
                new.draws[names[parent]] = whole
        return new

    def below(self, tokens: Sequence[int]) -> Tree:
        """This tree's tokens hung below a chain of others; node n becomes node n + len(tokens).

        Args:
            tokens: the chain, its root first; without any, the tree itself is copied.
        """
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
        """Nodes from the root to a node, both included.

        Args:
            node: the last of them.
        """
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
