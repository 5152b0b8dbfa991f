"""Dataset Decomposition: a document is the sum of powers of two.

Pouransari et al., "Dataset Decomposition: Faster LLM Training with Variable Sequence Length
Curriculum", NeurIPS 2024, arXiv:2405.13226.

From the front of a document of n tokens a piece of 2^k + 1 is cut, k = floor(log2(n - 1)). The same
is done with the rest, until it is shorter than the shortest piece. That tail is dropped. Pieces of
one length make one bucket. Each lies within one document, so attention never pays for other
documents. The one token over is the target of the last input.

The end token is the last of the tail. So only documents that divide into pieces to the last token
keep theirs. It is so in the authors' script too: it appends the token, and returns when the rest is
too short. A model trained on such rows sees few ends. With `drop=start` the same pieces lie at the
end of the document, and what is too short is its beginning. Then every document with a row keeps
its end token.

A document too long for the longest bucket would fill that one alone. So while it is too long, k is
drawn with probability proportional to 2^-k: as many tokens for every bucket on average
(`long=draw`). `long=greedy` cuts the longest pieces first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lengthwise._utils.counter_rng import Ints, key, uniforms, words
from lengthwise._utils.papers import Paper
from lengthwise.methods.options import option
from lengthwise.sequences.builders.plain import LONGEST, Plain
from lengthwise.sequences.curricula import PAPER
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.rows import Built, Documents, Rows

TAIL = "ends of documents, too short for the shortest bucket"
HEAD = "beginnings of documents, too short for the shortest bucket"
SHORT = "documents shorter than the shortest bucket"


@dataclass
class Decompose(Plain):
    """Bucket k has rows of 2^k + 1 tokens."""

    name: ClassVar[str] = "decompose"
    paper: ClassVar[Paper] = PAPER
    whole_documents: ClassVar[bool] = True
    document_mask: ClassVar[bool] = True
    target_token: ClassVar[bool] = True

    max_length: int = option(
        8192, "inputs of a row in the longest bucket, a power of two", low=2, high=LONGEST
    )
    min_length: int = option(256, "inputs of a row in the shortest bucket, a power of two", low=1)
    long: str = option("draw", "how longer documents are cut", choices=("draw", "greedy"))
    drop: str = option("end", "where a document loses what is too short", choices=("end", "start"))

    later: ClassVar[dict[str, str]] = {"drop": "end"}

    def __post_init__(self) -> None:
        for name in ("max_length", "min_length"):
            value = getattr(self, name)
            if value & (value - 1):
                raise SequenceError(f"{name}={value} is no power of two: {self._near(name, value)}")
        if self.min_length > self.max_length:
            raise SequenceError(
                f"min_length={self.min_length} is above max_length={self.max_length}: "
                f"give min_length={self.max_length} or less"
            )

    def _near(self, name: str, value: int) -> str:
        """The powers of two around a length, of those that would be taken."""
        low, high = 1, 1 << LONGEST.bit_length() - 1
        if name == "min_length":
            high = min(high, 1 << self.max_length.bit_length() - 1)
        else:
            low = min(high, 1 << (self.min_length - 1).bit_length())
        below = 1 << value.bit_length() - 1
        fit = [each for each in (below, 2 * below) if low <= each <= high]
        fit = fit or [low if 2 * below < low else high]
        return f"the nearest are {fit[0]} and {fit[1]}" if len(fit) > 1 else f"give {fit[0]}"

    @property
    def exponents(self) -> range:
        """The buckets, from the shortest."""
        return range(self.min_length.bit_length() - 1, self.max_length.bit_length())

    def build(self, documents: Documents, part: int) -> Built:
        starts, left = documents.starts.copy(), documents.lengths.copy()
        # Of the pieces of each bucket: whose they are, and where they begin.
        pieces: dict[int, list[tuple[Ints, Ints]]] = {k: [] for k in self.exponents}
        # One token more than two of the longest pieces' inputs: such a document is not too long.
        for index in np.flatnonzero(left > 2 * self.max_length):
            exponents = self._draws(int(documents.numbers[index]), int(left[index]))
            sizes = (1 << exponents) + 1
            begins = starts[index] + np.cumsum(sizes) - sizes
            for k in self.exponents:
                here = begins[exponents == k]
                pieces[k].append((np.full(len(here), index), here))
            starts[index] += sizes.sum()
            left[index] -= sizes.sum()
        for k in reversed(self.exponents):
            taken = np.flatnonzero(left > 1 << k)
            pieces[k].append((taken, starts[taken]))
            starts[taken] += (1 << k) + 1
            left[taken] -= (1 << k) + 1
        rows = {k: self._rows(found, left, (1 << k) + 1) for k, found in pieces.items()}
        whole = left == documents.lengths
        dropped = {SHORT: int(left[whole].sum()),
                   TAIL if self.drop == "end" else HEAD: int(left[~whole].sum())}  # fmt: skip
        kept = (left == 0) if self.drop == "end" else ~whole
        figures = {"ends_kept": int(kept.sum()), "ends_cut": int((~kept & ~whole).sum()),
                   "documents_without_row": int(whole.sum())}  # fmt: skip
        return Built(rows, {why: tokens for why, tokens in dropped.items() if tokens}, figures)

    def _rows(self, pieces: list[tuple[Ints, Ints]], left: Ints, length: int) -> Rows:
        """Pieces of one length as rows. left: tokens of each document that are in none."""
        starts = np.concatenate([begins for _, begins in pieces])
        if self.drop == "start":
            starts = starts + left[np.concatenate([whose for whose, _ in pieces])]
        return Rows(starts, np.full(len(starts), length), np.arange(len(starts) + 1))

    def _draws(self, document: int, tokens: int) -> Ints:
        """Exponents of the pieces cut while a document has more than twice max_length tokens."""
        longest = self.max_length.bit_length() - 1
        over = tokens - 2 * self.max_length
        if self.long == "greedy":
            return np.full(-(-over // (self.max_length + 1)), longest)
        own = int(words(key(self._seed, "decompose"), np.array([document]))[0])
        odds = 0.5 ** np.arange(len(self.exponents))
        below = np.cumsum(odds[::-1] / odds.sum())
        found, taken, drawn = [np.empty(0, np.int64)], 0, 0
        while taken < over:
            count = 64 + (over - taken) // self.min_length // 8
            chance = uniforms(own, np.arange(drawn, drawn + count))
            # The longest comes first in `below`, with the least odds.
            exponents = longest - np.minimum(
                np.searchsorted(below, chance, side="right"), len(odds) - 1
            )
            ends = taken + np.cumsum((1 << exponents) + 1)
            needed = int(np.searchsorted(ends, over)) + 1
            found.append(exponents[:needed])
            taken, drawn = int(ends[min(needed, count) - 1]), drawn + count
        return np.concatenate(found)
