"""Token Recycling: the next best tokens behind every token that was scored are later guesses.

Luo et al., "Turning Trash into Treasure: Accelerating Inference of Large Language Models with Token
Recycling", ACL 2025, arXiv:2408.08696.

Verification yields logits behind every token of the draft, right or wrong. A matrix keeps the best
eight tokens behind each, and the next draft is read from it:

    M[t] = top 8 of the logits behind t,  for every t of the verified tree
    draft(path) = M[draft(path without its last rank)][last rank]

Ours keeps their probabilities too, a byte each, and grows the tree best-first by their products. It
grows below the root and below whatever other drafters have guessed. The paper fills one fixed
template of 80 nodes (`tree=static`). Rows that nothing was learned about guess nothing. A token may
stand several times in a tree. An accepted place then wins over a rejected one, and a later one over
an earlier.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.base import Paper, Question, option
from lengthwise.methods.drafting._shared import tables
from lengthwise.models.adapted_model import AdaptedModel

# Successors kept of a token.
WIDTH = 8
# Costs are -log p in units of 1/16 nat, a byte each; the last one marks a row as never seen.
UNIT = 16
UNSEEN = 255
# How often a successor stored at a cost comes true behind another text than it was learned behind,
# as measured on the default model: sure ones less often than they claim, poor ones more often.
PROBS = [0.65 * math.exp(-0.8 * cost / UNIT) + 0.015 for cost in range(UNSEEN)]
STEPS = [-math.log(prob) for prob in PROBS]
# The least probability that is told from 0.
LEAST = 0.02
NODES = 64
# Children of each node of the paper's tree, by the ranks that lead to it.
TEMPLATE = {
    "": 8,
    "0": 8, "1": 4, "2": 3, "3": 2, "4": 1, "5": 1, "6": 1, "7": 1,
    "00": 8, "01": 3, "02": 2, "03": 1, "04": 1, "05": 1, "06": 1, "07": 1, "10": 2, "11": 1,
    "20": 1, "30": 1, "40": 1, "50": 1,
    "000": 5, "001": 2, "002": 1, "003": 1, "004": 1, "010": 1, "020": 1, "100": 1, "200": 1,
    "300": 1,
    "0000": 3, "0001": 1, "0002": 1, "0010": 1, "0100": 1, "1000": 1,
    "00000": 2, "00010": 1,
}  # fmt: skip


class Matrix(tables.Table):
    """ids `[vocab, 8]` in the smallest type that holds them; costs uint8, likewise, ascending."""

    kind = "recycling"

    def __init__(self, vocab_size: int) -> None:
        width = min(WIDTH, vocab_size)
        self.ids = np.zeros((vocab_size, width), np.min_scalar_type(vocab_size - 1))
        self.costs = np.full((vocab_size, width), UNSEEN, np.uint8)

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes + self.costs.nbytes

    def seen(self, token: int) -> bool:
        return bool(self.costs[token, 0] != UNSEEN)

    def put(self, tokens: Seq[int], ids: NDArray[np.int64], logp: NDArray[np.float32]) -> None:
        """Successors `[tokens, 8]`, likeliest first; of equal tokens the last one wins."""
        last = {token: row for row, token in enumerate(tokens)}
        rows, kept = list(last), list(last.values())
        self.ids[rows] = ids[kept]
        self.costs[rows] = np.rint(-UNIT * logp[kept]).clip(0, UNSEEN - 1)

    def row(self, token: int) -> list[tuple[int, int]]:
        """(cost, token) of the successors, likeliest first; none of a token never seen."""
        if not self.seen(token):
            return []
        return list(zip(self.costs[token].tolist(), self.ids[token].tolist(), strict=True))

    @classmethod
    def empty(cls, vocab_size: int) -> Self:
        return cls(vocab_size)

    def arrays(self) -> tables.Arrays:
        return {"ids": self.ids, "costs": self.costs}

    @classmethod
    def restored(cls, vocab_size: int, arrays: tables.Arrays) -> Self:
        new = cls(vocab_size)
        for name, mine in new.arrays().items():
            given = arrays[name]
            if given.shape != mine.shape or given.dtype != mine.dtype:
                raise ValueError(f"{name} has shape {given.shape} of {given.dtype}")
            mine[:] = given
        if int(new.ids.max()) >= vocab_size:
            raise ValueError("a token beyond the vocabulary")
        return new


@dataclass(frozen=True)
class Recycling(tables.TableMethod):
    """tree: `best` grows where products of probabilities are highest, `static` is the paper's."""

    name: ClassVar[str] = "recycling"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "Turning Trash into Treasure: Accelerating Inference of Large Language Models with "
        "Token Recycling",
        "Luo et al.",
        2025,
        arxiv="2408.08696",
        venue="ACL",
        code="https://github.com/Luowaterbi/TokenRecycling",
    )
    lossless: ClassVar[bool] = True
    kept: ClassVar[type[tables.Table]] = Matrix
    nodes: int | None = option(None, "most guesses a step (none: 64, or the paper's 80)", low=1)
    depth: int = option(6, "deepest guess; 0 guesses nothing", low=0)
    tree: str = option("best", "how the tree grows", choices=("best", "static"))
    table: str = tables.table_option()
    fresh: bool = tables.fresh_option()

    @classmethod
    def identity(cls, length: int) -> Recycling:
        return cls(depth=0)

    def start_drafter(self, model: AdaptedModel) -> RecyclingDrafter:
        return RecyclingDrafter(self, self.begin_table(Matrix, model), model)


class RecyclingDrafter(Drafter):
    """The bucket of a guess is that of the probability it was stored with."""

    name = "recycling"
    lock = tables.Table.lock

    def __init__(
        self, options: Recycling, matrix: Matrix, model: AdaptedModel | None = None
    ) -> None:
        """model: whose table it is, needed where it is saved."""
        self.options, self.matrix, self.model = options, matrix, model

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        if self.options.tree == "static":
            self._fill_template(tree, min(limit, self.options.depth))
        else:
            self._grow(tree, limit)

    def _grow(self, tree: Tree, limit: int) -> None:
        """Adds the likeliest nodes, below all that stand there already.

        Of every open node the heap holds the likeliest successor that was not looked at yet, as
        (-log-probability of its path, node, rank).
        """
        heap: list[tuple[float, int, int]] = []
        opened: dict[int, tuple[float, int, list[tuple[int, int]]]] = {}

        def open_node(node: int, path: float, deepest: int) -> None:
            if tree.depths[node] < deepest and (row := self.matrix.row(tree.tokens[node])):
                opened[node] = path, deepest, row
                heapq.heappush(heap, (path + STEPS[row[0][0]], node, 0))

        for node, path in enumerate(_openings(tree)):
            open_node(node, path, min(limit, tree.depths[node] + self.options.depth))
        left = self.options.nodes or NODES
        while heap and left:
            path, node, rank = heapq.heappop(heap)
            before, deepest, row = opened[node]
            cost, token = row[rank]
            if rank + 1 < len(row):
                heapq.heappush(heap, (before + STEPS[row[rank + 1][0]], node, rank + 1))
            new = len(tree)
            if tree.add(node, token, self.name, bucket_of(cost), PROBS[cost]) == new:
                left -= 1
                open_node(new, path, deepest)

    def _fill_template(self, tree: Tree, limit: int) -> None:
        places, left = {"": 0}, self.options.nodes or sum(TEMPLATE.values())
        for path, count in TEMPLATE.items():
            if path not in places or len(path) >= limit:
                continue
            parent = places[path]
            for rank, (cost, token) in enumerate(self.matrix.row(tree.tokens[parent])[:count]):
                if not left:
                    return
                left -= 1
                places[f"{path}{rank}"] = tree.add(
                    parent, token, self.name, bucket_of(cost), PROBS[cost]
                )

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        nodes, ids, logp = tables.behind(tree, logits, accepted, WIDTH)
        self.matrix.put([tree.tokens[node] for node in nodes], ids, logp)

    def finish(self) -> None:
        self.options.end_table(self.matrix, self.model)


def _openings(tree: Tree) -> list[float]:
    """-log of the probability, by node, that it comes true and what follows it was not guessed."""
    paths = [0.0]
    for node in range(1, len(tree)):
        paths.append(paths[tree.parents[node]] - math.log(max(tree.priors[node], LEAST)))
    left = [1 - sum(tree.priors[child] for child in below.values()) for below in tree.children]
    return [path - math.log(max(rest, LEAST)) for path, rest in zip(paths, left, strict=True)]


def bucket_of(cost: int) -> int:
    """Eight buckets, each of 0.6 times the probability of the one before."""
    return min(cost // 8, 7)
