"""ADED: a table of what follows two tokens, searched like a game and corrected by the text.

Liu et al., "Adaptive Draft-Verification for Efficient Large Language Model Decoding", AAAI 2025,
arXiv:2407.12021.

For a pair of tokens the table holds what may follow, and how likely. A Monte-Carlo tree search
starts from the last two tokens of the text. It weighs what the table says is likely against what
has been visited little. The most visited paths are the draft. The rules are those of the authors'
code (the repository Adaptix), since the paper does not give them:

    learn = text     before every search, for each trigram (u, v, w) of the last 16 tokens:
                         P(w | u, v) <- min(3, P(w | u, v) + 0.04)
    search = sums    150 descents to a depth of 4; 24 paths (see `puct`)

No logits are read and nothing is normalised: what stands in the text again and again grows beyond
what the corpus gave. Other rules are those we had before the code was read (see `best_known`):

    learn = logits   row(u,v) <- (1 - eta) row(u,v) + eta top12(p after u,v), each verified token v
    search = products    64 descents to a depth of 8

The code begins with a corpus, P = k / n. Ours begins with the prompt's own text. A token that
follows at k of the n places of a pair gets k / (n + 1), and what was known before moves by the rule
of learning. Rows hold 12 tokens, and a new token takes the place of the lightest. The code cuts its
rows so only when it loads them.

The code leaves out the longest paths where all together have more than 64 tokens, before they are
merged. Ours merges them first, and then all of them fit. For learning from logits, a pair may stand
several times in a tree. An accepted place then wins over a rejected one, and a later one over an
earlier.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.base import Needs, Paper, Question, option
from lengthwise.methods.drafting._shared import tables
from lengthwise.methods.drafting._shared.puct import DraftToken, search_products, search_sums
from lengthwise.models.adapted_model import AdaptedModel

# Successors kept of a pair.
WIDTH = 12
# Of the authors' rule of learning: tokens of the text's end that it reads at every step, what a
# place adds to a weight, and the most that a weight becomes.
END, STEP, MOST = 16, 0.04, 3.0
# Descents and depth of a search where none are given.
DESCENTS = {"sums": 150, "products": 64}
DEPTHS = {"sums": 4, "products": 8}


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

    def add(self, keys: Seq[int], ids: NDArray[np.int64], weights: NDArray[np.float32]) -> None:
        """Adds to the weights of rows, up to MOST each; no key stands twice in keys.

        ids, weights: `[keys, at most 12]`, 0 is nothing. What is added to stays, whatever it
        weighs: it takes the place of the lightest.
        """
        keys, ids, weights = keys[-self.most :], ids[-self.most :], weights[-self.most :]
        slots = np.array([self._place(key)[0] for key in keys], np.int64)
        old_ids, old = self._ids[slots], self._weights[slots]
        ids = ids.astype(np.int32)
        same = (old_ids[:, :, None] == ids[:, None, :]) & (old[:, :, None] > 0)
        more = (same * weights[:, None, :]).sum(-1)
        new = np.where(same.any(1), 0, weights)
        every = np.concatenate([old_ids, ids], 1)
        values = np.minimum(np.concatenate([old + more, new], 1), MOST)
        touched = np.concatenate([more, new], 1) > 0
        kept = np.argsort(-(values + touched * 2 * MOST), axis=1, kind="stable")[:, :WIDTH]
        values = np.take_along_axis(values, kept, 1)
        order = np.argsort(-values, axis=1, kind="stable")
        self._ids[slots] = np.take_along_axis(np.take_along_axis(every, kept, 1), order, 1)
        self._weights[slots] = np.take_along_axis(values, order, 1)

    def note(self, tokens: Seq[int]) -> None:
        """Adds STEP for every trigram of a text."""
        rows = _followed(tokens[::-1], self.vocab_size)
        ids, counts = _widest(rows)
        self.add(list(rows), ids, (STEP * counts).astype(np.float32))

    def read(self, tokens: Seq[int], rate: float | None = None) -> None:
        """Takes in a text, the last `most` pairs of it. Pairs that are known move by rate, or where
        it is None gain STEP a place."""
        # From the end, so that of equally frequent successors the latest comes first.
        rows = _followed(list(tokens[-self.most - 2 :])[::-1], self.vocab_size)
        if not rows:
            return
        ids, counts = _widest(rows)
        totals = np.array([sum(row.values()) for row in rows.values()])[:, None]
        keys, shares = list(rows), (counts / (totals + 1)).astype(np.float32)
        known = np.array([key in self._slots for key in keys])
        if rate is None:
            amounts = np.where(known[:, None], STEP * counts, shares).astype(np.float32)
            self.add(keys[::-1], ids[::-1], amounts[::-1])
        else:
            self.blend(keys[::-1], ids[::-1], shares[::-1], rate)

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


class TextTrigrams(Trigrams):
    """Trigrams whose weights are no probabilities: a table of a kind of its own."""

    kind = "aded, learned from text"


@dataclass(frozen=True)
class ADED(tables.TableMethod):
    """learn: from what the table learns. search: how it is searched, `simulations` times and so
    deep. nodes: most guesses. eta: of learning from logits."""

    name: ClassVar[str] = "aded"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "Adaptive Draft-Verification for Efficient Large Language Model Decoding",
        "Liu et al.",
        2025,
        arxiv="2407.12021",
        venue="AAAI",
        code="https://github.com/liuxukun2000/Adaptix",
    )
    best_known: ClassVar[str] = "aded(learn=logits, search=products)"
    lossless: ClassVar[bool] = True
    learn: str = option("text", "what the table learns from", choices=("text", "logits"))
    search: str = option("sums", "what a path is worth", choices=("sums", "products"))
    nodes: int = option(64, "most guesses a step", low=1)
    simulations: int | None = option(
        None, "descents of the search a step (none: 150, of products 64)", low=1
    )
    depth: int | None = option(
        None, "deepest guess; 0 guesses nothing (none: 4, of products 8)", low=0
    )
    eta: float = option(
        0.3,
        "share of a new observation in a row",
        low=0,
        high=1,
        needs=Needs("learn=logits", lambda method: method.learn == "logits"),
    )
    pairs: int = option(65536, "most pairs kept; those not used for longest go", low=1)
    table: str = tables.table_option()
    fresh: bool = tables.fresh_option()

    @classmethod
    def identity(cls, length: int) -> ADED:
        return cls(depth=0)

    @property
    def kept(self) -> type[Trigrams]:  # type: ignore[override]
        """Weights of one rule mean nothing to the other."""
        return TextTrigrams if self.learn == "text" else Trigrams

    def start_drafter(self, model: AdaptedModel) -> ADEDDrafter:
        return ADEDDrafter(self, self.begin_table(self.kept, model), model)


class ADEDDrafter(Drafter):
    """The bucket of a guess is that of its share of the weights of its row."""

    name = "aded"
    lock = tables.Table.lock

    def __init__(
        self, options: ADED, trigrams: Trigrams, model: AdaptedModel | None = None
    ) -> None:
        """model: whose table it is, needed where it is saved."""
        self.options, self.trigrams, self.model = options, trigrams, model
        trigrams.most = options.pairs
        search = options.search
        self._descents = options.simulations or DESCENTS[search]
        self._depth = DEPTHS[search] if options.depth is None else options.depth
        # Of the random walks: guesses may be any, and are the same every time.
        self._rng = random.Random(0)

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        rate = None if self.options.learn == "text" else self.options.eta
        self.trigrams.read(sequence.tokens, rate)

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        if len(tokens) < 2:
            return
        places = [0]
        for parent, token, weight in self._search(tokens, min(limit, self._depth)):
            if len(places) > self.options.nodes:
                return
            places.append(
                tree.add(places[parent], token, self.name, bucket_of(weight), _prior(weight))
            )

    def _search(self, tokens: Seq[int], depth: int) -> list[DraftToken]:
        pair, row, descents = (tokens[-2], tokens[-1]), self.trigrams.row, self._descents
        if self.options.search == "sums":
            return search_sums(*pair, row, depth, descents, self._rng)
        return search_products(*pair, row, depth, descents)

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        if self.options.learn == "text":
            self.trigrams.note(tokens[-END:])
        else:
            self._learn_logits(tokens, tree, logits, accepted)

    def _learn_logits(
        self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]
    ) -> None:
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


def _followed(backwards: Seq[int], vocab_size: int) -> dict[int, dict[int, int]]:
    """Of a text given from its end: for every pair, by its key, how often each token follows."""
    rows: dict[int, dict[int, int]] = {}
    for after, token, before in zip(backwards, backwards[1:], backwards[2:], strict=False):
        row = rows.setdefault(before * vocab_size + token, {})
        row[after] = row.get(after, 0) + 1
    return rows


def _widest(rows: dict[int, dict[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The most frequent successors of rows and their counts `[rows, 12]`."""
    ids = np.zeros((len(rows), WIDTH), np.int64)
    counts = np.zeros((len(rows), WIDTH), np.int64)
    for number, row in enumerate(rows.values()):
        for rank, token in enumerate(sorted(row, key=row.__getitem__, reverse=True)[:WIDTH]):
            ids[number, rank], counts[number, rank] = token, row[token]
    return ids, counts


def bucket_of(weight: float) -> int:
    """Eight buckets, each of half the weight of the one before."""
    return min(7, int(-math.log2(max(weight, 1e-3))))


def _prior(weight: float) -> float:
    return min(max(weight, 1e-3), 0.999)
