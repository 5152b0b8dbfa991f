"""A law given as a table, and a language of which plain masking knows the first tokens alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence as Seq

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lengthwise.methods.decoding.asap import AsapLaw, Futures

LETTERS, LENGTH = 4, 6


class Table:
    """P(token | path) for every path of less than LENGTH letters, drawn once."""

    def __init__(self, seed: int, spread: float) -> None:
        draws = np.random.default_rng(seed)
        self.logits = {
            path: torch.from_numpy(draws.normal(0, spread, LETTERS)).float()
            for length in range(LENGTH)
            for path in itertools.product(range(LETTERS), repeat=length)
        }

    def law(self) -> NDArray[np.float64]:
        """The probability of every text of LENGTH letters, `[LETTERS] * LENGTH`."""
        found = np.ones((LETTERS,) * LENGTH)
        for path, logits in self.logits.items():
            probs = torch.softmax(logits.double(), -1).numpy()
            for token in range(LETTERS):
                found[(*path, token)] *= probs[token]
        return found


class Language:
    """Texts whose letters add up to a number: known to be missed at the last letter alone.

    It stands where a matcher of a grammar does.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.path: list[int] = []
        self.error = ""

    def member(self, path: Seq[int]) -> bool:
        return sum(path) == self.total

    def go(self, path: Seq[int]) -> bool:
        self.path = list(path)
        return True

    def allowed(self, count: int) -> Tensor:
        rest = LENGTH - len(self.path) - 1
        left = [self.total - sum(self.path) - token for token in range(count)]
        return torch.tensor([0 <= each <= rest * (count - 1) for each in left])

    @property
    def whole(self) -> bool:
        return len(self.path) == LENGTH and self.member(self.path)

    @property
    def over(self) -> bool:
        return self.whole

    def forced(self) -> list[int]:
        return []


class Sampler:
    """Draws texts of a language from a table by `asap`, one after the other."""

    def __init__(self, table: Table, total: int, seed: int = 0) -> None:
        self.table, self.total, self.drawn = table, total, 0
        self.futures = Futures(1)
        self._draws = np.random.default_rng(seed)
        law = table.law()
        texts = itertools.product(range(LETTERS), repeat=LENGTH)
        member = np.array([Language(total).member(text) for text in texts]).reshape(law.shape)
        self.share = float(law[member].sum())
        self.exact = law * member / self.share

    def draw(self) -> list[int]:
        """A text, which the next one is drawn better for."""
        law, text = self._law(), list[int]()
        while len(text) < LENGTH:
            probs = self._probs(law, text)
            text.append(int(self._draws.choice(LETTERS, p=probs)))
        law.finish(text)
        self.drawn += 1
        return text

    def distance(self) -> float:
        """Total variation of the next text's law to the exact conditional one."""
        found, law = np.zeros_like(self.exact), self._law()
        for path, prob in self._texts(law, [], 1.0):
            found[path] = prob
        return float(np.abs(found - self.exact).sum() / 2)

    @property
    def rate(self) -> float:
        """What is thought to be the share of texts that are in the language."""
        root, _ = self.futures.get("")
        return 1.0 if root is None else root.rate

    def _law(self) -> AsapLaw:
        law = AsapLaw("asap", Language(self.total), self.futures, 10**9, "")  # type: ignore[arg-type]
        law.limit = LENGTH
        law.open("", 1.0)
        return law

    def _probs(self, law: AsapLaw, path: list[int]) -> NDArray[np.float64]:
        scores = law.process(self.table.logits[tuple(path)].clone(), path)
        probs: NDArray[np.float64] = torch.softmax(scores.double(), -1).numpy()
        return probs / probs.sum()

    def _texts(
        self, law: AsapLaw, path: list[int], prob: float
    ) -> Iterator[tuple[tuple[int, ...], float]]:
        if len(path) == LENGTH:
            yield tuple(path), prob
            return
        for token, share in enumerate(self._probs(law, path)):
            if share:
                yield from self._texts(law, [*path, token], prob * float(share))
