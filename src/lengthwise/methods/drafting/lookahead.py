"""Lookahead decoding: the model guesses many tokens ahead at once, and its answers are kept.

Fu et al., "Break the Sequential Dependency of LLM Inference Using Lookahead Decoding", ICML 2024,
arXiv:2402.02057.

Beside the guesses, a step scores a window of tokens, most of which are wrong. What the model says
after each is a little less wrong. N-grams of what it said one after the other form a pool, and
later steps guess from it:

    window   rows 0 .. N-2 of W columns; column i of row r stands i + r tokens ahead, behind the
             root, row 0 up to column i, and rows 1 .. r of its own column   (column 0 of row 0 is
             the root itself)
    step     y_i = argmax after column i of row N-2;  pool[column i of row 0] gains the n-gram of
             column i of rows 1 .. N-2 and y_i; G are kept of a token, the least recent go;
             rows move up: row 0 = row 1 without its first, ..., row N-2 = y
    guess    the G n-grams in pool[root], chains of N-1 tokens

Row 0 begins with random tokens of the text. The other rows are filled in the first N-2 steps.
`prompt` fills the pool from the prompt and from what is said too, as the code can.

The mask of the window is that of a tree: row 0 is a chain below the root. The other rows of a
column hang below its place in that chain. So every window token is a node of the tree that is
verified, and sees what it sees in the paper. Tokens that agree share a node, which changes nothing.

The original never says a window token. Here one that is right counts like any guess. The original
fills the first row from the prompt's own forward; ours begins at the first step. The original
replaces end tokens in the window by tokens of the text; ours knows no end token. Its sampling draws
for every n-gram; ours matches. Window tokens are the likeliest ones in both.

A window token itself is worth little, so that cannot decide how much of the window is verified. So
the method brings a policy of its own: goodput for the guesses, and the window whole or not at all.
It leaves the window out while its n-grams bring less than it costs on this machine. Recipes that
name another policy are refused. N, W, G are those of the authors' README for a model of 7B. The
paper measures W = G = 15.
"""

from __future__ import annotations

import random
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import LengthPolicy
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.drafting._shared.windowed_goodput import WINDOW, windowed_policy
from lengthwise.models.adapted_model import AdaptedModel

# Probabilities of an n-gram's first guess and of those below it, and of a window token, before any
# text has shown its own.
FIRST, BELOW, WRONG = 0.1, 0.5, 0.02


@dataclass(frozen=True)
class Lookahead(Method):
    """ngram, window, guesses: N, W and G of the paper."""

    name: ClassVar[str] = "lookahead"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "Break the Sequential Dependency of LLM Inference Using Lookahead Decoding",
        "Fu et al.",
        2024,
        arxiv="2402.02057",
        venue="ICML",
        code="https://github.com/hao-ai-lab/LookaheadDecoding",
    )
    best_known: ClassVar[str] = "lookahead(prompt=true)"
    lossless: ClassVar[bool] = True
    ngram: int = option(5, "tokens of an n-gram, the one it is found by included", low=3)
    window: int = option(7, "tokens ahead at which the model guesses; 0: none", low=0)
    guesses: int = option(7, "most n-grams guessed a step and kept of a token", low=0)
    prompt: bool = option(False, "fill the pool from the text as well")

    @classmethod
    def identity(cls, length: int) -> Lookahead:
        return cls(window=0, guesses=0)

    def start_drafter(self, model: AdaptedModel) -> LookaheadDrafter:
        return LookaheadDrafter(self)

    def start_policy(self, model: AdaptedModel) -> LengthPolicy:
        return windowed_policy(model)


class NgramPool:
    """N-grams by their first token: of each at most `most`, the least recently seen go."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._grams: dict[int, dict[tuple[int, ...], None]] = {}

    def add(self, first: int, rest: tuple[int, ...]) -> None:
        grams = self._grams.setdefault(first, {})
        grams.pop(rest, None)
        grams[rest] = None
        if len(grams) > self.most:
            del grams[next(iter(grams))]

    def of(self, first: int) -> list[tuple[int, ...]]:
        """What follows a token, the most recently seen first."""
        return list(self._grams.get(first, ()))[::-1]


class LookaheadDrafter(Drafter):
    """Adds the window, then the n-grams of the pool.

    The bucket of an n-gram's guess is its depth. Window tokens have buckets of their own, from
    WINDOW on: those of column 0, which are guesses of the very next tokens, and the others.
    """

    name = "lookahead"

    def __init__(self, options: Lookahead) -> None:
        self.options = options
        self.pool = NgramPool(options.guesses)
        # Rows of the window, the oldest first; see the module.
        self.rows: list[list[int]] = []
        # Of the first row: any will do, and they are the same every time.
        self._rng = random.Random(0)
        self._pooled = 0

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        if self.options.prompt:
            self._pool_text(sequence.tokens)

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        options = self.options
        if options.window and not self.rows:
            size = options.window + options.ngram - 3
            self.rows = [[self._rng.choice(tokens) for _ in range(size)]]
        for column, path in self.paths():
            node = 0
            for depth, token in enumerate(path[:limit]):
                bucket = WINDOW + (depth if not column else options.ngram)
                node = tree.add(node, token, self.name, bucket, WRONG)
        if not options.guesses:
            return
        for gram in self.pool.of(tokens[-1]):
            node = 0
            for depth, token in enumerate(gram[:limit]):
                node = tree.add(node, token, self.name, depth, BELOW if depth else FIRST)

    def paths(self) -> list[tuple[int, list[int]]]:
        """Each column of the newest row: its number, and the window's tokens from below the root to
        it."""
        if not self.rows:
            return []
        spine, others = self.rows[0], self.rows[1:]
        if not others:
            return [(column + 1, spine[: column + 1]) for column in range(len(spine))]
        return [
            (column, [*spine[:column], *(row[column] for row in others)])
            for column in range(len(others[-1]))
        ]

    def learn(self, tokens: Seq[int], tree: Tree, logits: Tensor, accepted: Seq[int]) -> None:
        if self.options.prompt:
            self._pool_text(tokens)
        said = self._said(tree, logits)
        if all(token is None for token in said):
            return
        full = len(self.rows) == self.options.ngram - 1
        if full and self.options.guesses:
            firsts = [tree.tokens[0], *self.rows[0]]
            for column, token in enumerate(said):
                if token is not None:
                    rest = (*(row[column] for row in self.rows[1:]), token)
                    self.pool.add(firsts[column], rest)
        # A column that was not scored, as near the end of a request, begins anew.
        new = [self._rng.choice(tokens) if token is None else token for token in said]
        if full:
            self.rows = [self.rows[1][1:], *self.rows[2:], new]
        elif len(self.rows) == 1:
            self.rows = [self.rows[0][1:], new]
        else:
            self.rows = [*(row[1:] for row in self.rows), new[1:]]

    def _said(self, tree: Tree, logits: Tensor) -> list[int | None]:
        """The likeliest token after each column of the newest row; None where it was not scored."""
        ends: list[int | None] = []
        for _, path in self.paths():
            node: int | None = 0
            for token in path:
                node = tree.children[node].get(token) if node is not None else None
            ends.append(node)
        scored = [node for node in ends if node is not None]
        rows = logits[torch.tensor(scored, dtype=torch.long, device=logits.device)]
        found = iter(rows.argmax(-1).tolist())
        return [None if node is None else next(found) for node in ends]

    def _pool_text(self, tokens: Seq[int]) -> None:
        """Enters the n-grams of a text that are new."""
        size = self.options.ngram
        for end in range(max(self._pooled + 1, size), len(tokens) + 1):
            first, *rest = tokens[end - size : end]
            self.pool.add(first, tuple(rest))
        self._pooled = len(tokens)


__all__ = ["Lookahead", "LookaheadDrafter", "NgramPool"]
