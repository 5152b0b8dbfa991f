"""ADED: a table of what follows two tokens, searched like a game and corrected by every verdict.

Liu et al., "Adaptive Draft-Verification for Efficient Large Language Model Decoding", AAAI 2025,
arXiv 2407.12021. For a pair of tokens the table holds what may follow and how likely. A Monte-Carlo
tree search from the last two tokens of the text weighs what the table promises against what has
been looked at little, and the most visited paths are the draft:

    choose  argmax_a Q(s,a) + c(s) P(a|s) sqrt(N(s)) / (1 + N(s,a))
    with    c(s) = c1 + log((N(s) + c2 + 1) / c2),   Q = mean of the products of P along the path
    learn   row(u,v) <- (1 - eta) row(u,v) + eta top12(p after u,v),   for every verified token v

The rule of learning is ours, since the paper's is not public. The table begins with the prompt's
own text instead of a corpus: of n places of a pair, k followed by a token, it gets k / (n + 1).
Where a pair stands several times in a tree, an accepted place wins over a rejected one, and a later
one over an earlier.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lengthwise.engine.roles import Drafter
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.sequence import Sequence
from lengthwise.engine.tree import Tree
from lengthwise.methods.base import Question, option
from lengthwise.methods.drafting import tables
from lengthwise.models.adapt import Adapted

# Successors kept of a pair.
WIDTH = 12
# Constants of the search, those of AlphaZero: how much is explored, and from when on more.
C1, C2 = 1.25, 19652


class Trigrams(tables.Table):
    """Successors of pairs, likeliest first: ids int32 and weights float32 `[pairs, 12]`.

    A weight of 0 is no successor. At most `most` pairs are kept; those not used for longest go.
    """

    kind = "aded"

    def __init__(self, vocab_size: int, most: int = 1) -> None:
        self.vocab_size, self.most = vocab_size, most
        self._slots: OrderedDict[int, int] = OrderedDict()
        self._spare: list[int] = []
        self._ids = np.zeros((0, WIDTH), np.int32)
        self._weights = np.zeros((0, WIDTH), np.float32)

    def __len__(self) -> int:
        return len(self._slots)

    def row(self, before: int, token: int) -> tuple[list[int], list[float]]:
        """Tokens that may follow a pair and their weights, likeliest first."""
        key = before * self.vocab_size + token
        slot = self._slots.get(key)
        if slot is None:
            return [], []
        self._slots.move_to_end(key)
        weights = self._weights[slot]
        count = int(np.count_nonzero(weights))
        return self._ids[slot, :count].tolist(), weights[:count].tolist()

    def blend(
        self, keys: Seq[int], ids: NDArray[np.int64], weights: NDArray[np.float32], rate: float
    ) -> None:
        """Moves rows towards these `[keys, at most 12]` by rate, a new row all the way.

        Keys are before * vocab_size + token; of equal keys the last one wins.
        """
        last = {key: row for row, key in enumerate(keys)}
        kept = list(last.values())[-self.most :]
        places = [self._place(keys[row]) for row in kept]
        slots = np.array([slot for slot, _ in places], np.int64)
        known = np.array([known for _, known in places], bool)[:, None]
        rates = np.where(known, rate, 1.0).astype(np.float32)
        ids, weights = ids[kept].astype(np.int32), weights[kept]
        old_ids, old = self._ids[slots], self._weights[slots] * (1 - rates)
        same = (old_ids[:, :, None] == ids[:, None, :]) & (old[:, :, None] > 0)
        old += rates * (same * weights[:, None, :]).sum(-1)
        every = np.concatenate([old_ids, ids], 1)
        values = np.concatenate([old, np.where(same.any(1), 0, rates * weights)], 1)
        order = np.argsort(-values, axis=1, kind="stable")[:, :WIDTH]
        self._ids[slots] = np.take_along_axis(every, order, 1)
        self._weights[slots] = np.take_along_axis(values, order, 1)

    def read(self, tokens: Seq[int], rate: float) -> None:
        """Takes in a text, the last `most` pairs of it."""
        text = list(tokens[-self.most - 2 :])[::-1]
        # From the end, so that of equally frequent successors the latest comes first.
        counts: dict[int, dict[int, int]] = {}
        for after, token, before in zip(text, text[1:], text[2:], strict=False):
            row = counts.setdefault(before * self.vocab_size + token, {})
            row[after] = row.get(after, 0) + 1
        ids = np.zeros((len(counts), WIDTH), np.int64)
        weights = np.zeros((len(counts), WIDTH), np.float32)
        for number, row in enumerate(counts.values()):
            total = sum(row.values()) + 1
            for rank, token in enumerate(sorted(row, key=row.__getitem__, reverse=True)[:WIDTH]):
                ids[number, rank], weights[number, rank] = token, row[token] / total
        self.blend(list(counts)[::-1], ids[::-1], weights[::-1], rate)

    def _place(self, key: int) -> tuple[int, bool]:
        """The slot of a pair, now the one used last, and whether it was there already."""
        slot = self._slots.pop(key, None)
        known = slot is not None
        if slot is None:
            while len(self) >= self.most:
                self._spare.append(self._slots.popitem(last=False)[1])
            if not self._spare:
                self._grow(max(256, 2 * len(self._ids)))
            slot = self._spare.pop()
        self._slots[key] = slot
        return slot, known

    def _grow(self, slots: int) -> None:
        more = slots - len(self._ids)
        self._spare += range(slots - 1, len(self._ids) - 1, -1)
        self._ids = np.concatenate([self._ids, np.zeros((more, WIDTH), np.int32)])
        self._weights = np.concatenate([self._weights, np.zeros((more, WIDTH), np.float32)])

    @classmethod
    def empty(cls, vocab_size: int) -> Self:
        return cls(vocab_size)

    def arrays(self) -> tables.Arrays:
        """Pairs in the order of their last use."""
        found = list(self._slots.items())
        slots = np.array([slot for _, slot in found], np.int64)
        keys = np.array([key for key, _ in found], np.int64)
        return {"keys": keys, "ids": self._ids[slots], "weights": self._weights[slots]}

    @classmethod
    def restored(cls, vocab_size: int, arrays: tables.Arrays) -> Self:
        keys, ids, weights = (arrays[name] for name in ("keys", "ids", "weights"))
        if ids.shape != (len(keys), WIDTH) or weights.shape != ids.shape:
            raise ValueError(f"rows of shape {ids.shape} and {weights.shape}")
        new = cls(vocab_size, max(1, len(keys)))
        new._grow(len(keys))
        new._ids[:], new._weights[:] = ids, weights
        new._slots = OrderedDict(zip(keys.tolist(), range(len(keys)), strict=True))
        new._spare = []
        return new


@dataclass(frozen=True)
class ADED(tables.TableMethod):
    """nodes, simulations: how much is guessed and searched. eta: how fast the table changes."""

    name: ClassVar[str] = "aded"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[str] = "arXiv 2407.12021"
    lossless: ClassVar[bool] = True
    kept: ClassVar[type[tables.Table]] = Trigrams
    nodes: int = option(64, "most guesses a step", low=1)
    simulations: int = option(64, "descents of the search a step", low=1)
    depth: int = option(8, "deepest guess; 0 guesses nothing", low=0)
    eta: float = option(0.3, "share of a new observation in a row of the table", low=0, high=1)
    pairs: int = option(65536, "most pairs kept; those not used for longest go", low=1)
    table: str = tables.table_option()
    fresh: bool = tables.fresh_option()

    @classmethod
    def identity(cls, length: int) -> ADED:
        return cls(depth=0)

    def start_drafter(self, model: Adapted) -> ADEDDrafter:
        return ADEDDrafter(self, self.begin_table(Trigrams, model), model)


class ADEDDrafter(Drafter):
    """A guess is graded by its weight in the table."""

    name = "aded"
    lock = tables.Table.lock

    def __init__(self, options: ADED, trigrams: Trigrams, model: Adapted | None = None) -> None:
        """model: whose table it is, needed where it is saved."""
        self.options, self.trigrams, self.model = options, trigrams, model
        trigrams.most = options.pairs

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        self.trigrams.read(sequence.tokens, self.options.eta)

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        if len(tokens) < 2:
            return
        root = Edge(tokens[-1], 1.0, None, *self.trigrams.row(tokens[-2], tokens[-1]))
        depth = min(limit, self.options.depth)
        found = search(root, self.trigrams, depth, self.options.simulations)
        # No child is visited more often than its parent, nor found before it.
        found.sort(key=lambda edge: -edge.visits)
        places = {id(root): 0}
        for edge in found[: self.options.nodes]:
            places[id(edge)] = tree.add(
                places[id(edge.parent)], edge.token, self.name, grade(edge.weight),
                _prior(edge.weight),
            )  # fmt: skip

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        # Behind the root stand the accepted guesses and one token more.
        root = len(tokens) - 1 - len(accepted)
        before = [tokens[root - 1]] if root else [-1]
        before += [tree.tokens[parent] for parent in tree.parents[1:]]
        nodes, ids, logp = tables.behind(tree, logits, accepted, WIDTH)
        paired = [row for row, node in enumerate(nodes) if before[node] >= 0]
        keys = [
            before[nodes[row]] * self.trigrams.vocab_size + tree.tokens[nodes[row]]
            for row in paired
        ]
        self.trigrams.blend(keys, ids[paired], np.exp(logp[paired]), self.options.eta)

    def finish(self) -> None:
        self.options.end_table(self.trigrams, self.model)


@dataclass(slots=True)
class Edge:
    """A guess in the search: what may follow it, likeliest first, and what is known by now.

    children: the successors that were looked at, always the likeliest ones. value: sum over visits
    of the chance that the path they ended at comes true.
    """

    token: int
    weight: float
    parent: Edge | None
    tokens: list[int]
    weights: list[float]
    children: list[Edge] = field(default_factory=list)
    visits: int = 1
    value: float = 0.0


def search(root: Edge, table: Trigrams, depth: int, simulations: int) -> list[Edge]:
    """Descends so many times, adding at most one edge each; returns them in the order found."""
    found: list[Edge] = []
    if not root.tokens or not depth:
        return found
    for _ in range(simulations):
        edge, chance, level = root, 1.0, 0
        while edge.tokens and level < depth:
            known, best = len(edge.children), _choose(edge)
            if best == known:
                token = edge.tokens[best]
                edge.children.append(
                    Edge(token, edge.weights[best], edge, *table.row(edge.token, token), visits=0)
                )
                found.append(edge.children[best])
            edge = edge.children[best]
            chance *= edge.weight
            level += 1
            if best == known:
                break
        above: Edge | None = edge
        while above is not None:
            above.visits += 1
            above.value += chance
            above = above.parent
    return found


def _choose(edge: Edge) -> int:
    """The successor of the highest score; of those not looked at yet only the likeliest counts."""
    passed = edge.visits - 1
    explore = (C1 + math.log((passed + C2 + 1) / C2)) * math.sqrt(passed)
    best, highest = -1, -1.0
    for rank, child in enumerate(edge.children):
        score = child.value / child.visits + explore * child.weight / (1 + child.visits)
        if score > highest:
            best, highest = rank, score
    known = len(edge.children)
    if known < len(edge.tokens) and explore * edge.weights[known] > highest:
        best = known
    return best


def grade(weight: float) -> int:
    """Eight grades, each of half the weight of the one before."""
    return min(7, int(-math.log2(max(weight, 1e-3))))


def _prior(weight: float) -> float:
    return min(max(weight, 1e-3), 0.999)
