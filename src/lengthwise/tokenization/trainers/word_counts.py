"""Different pieces of a corpus, and how often each occurs: what merges within words are learned of.

One core counts some tens of megabytes a second, more than two processes send each other.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from lengthwise.tokenization.compiled import kernels
from lengthwise.tokenization.pieces import Bytes
from lengthwise.tokenization.trainers.merges import TOKEN_OF_BYTE, Tokens

# Counts that a place can hold.
_MOST = 2**31 - 1


class WordCounts:
    """Counts pieces as they come; memory grows with how many are different."""

    def __init__(self) -> None:
        self._kernels: Any = kernels("trainers.word_kernels")
        self.number = 0
        self._slots = np.full(1 << 12, -1, np.int32)
        self._flat = np.empty(1 << 12, np.uint8)
        self._starts = np.zeros(1 << 10, np.int64)
        self._counts = np.zeros(1 << 10, np.int64)

    def add(self, data: Bytes, ends: Tokens) -> None:
        """Counts pieces.

        Args:
            data: they one behind the other, uint8 `[bytes]`.
            ends: of each, int32 `[pieces]`.
        """
        words = self.number + len(ends) + 1
        used = int(self._starts[self.number])
        self._starts = _room(self._starts, words + 1)
        self._counts = _room(self._counts, words)
        self._flat = _room(self._flat, used + len(data))
        if 2 * words > len(self._slots):
            self._slots = np.empty(1 << (2 * words).bit_length(), np.int32)
            self._kernels.fill_slots(self._flat, self._starts, self.number, self._slots)
        self.number = int(
            self._kernels.count_pieces(
                data, ends, self._slots, self._flat, self._starts, self._counts, self.number
            )
        )

    def laid_out(self) -> tuple[Tokens, Tokens]:
        """Tokens of the words and how often each place counts, both int32 `[places]`."""
        starts = self._starts[: self.number + 1]
        counts = np.minimum(self._counts[: self.number], _MOST)
        none = np.empty(0, np.int32)
        lay = self._kernels.lay_out
        places = lay(self._flat, starts, counts, TOKEN_OF_BYTE, none, none)
        tokens, weights = np.empty(places, np.int32), np.empty(places, np.int32)
        lay(self._flat, starts, counts, TOKEN_OF_BYTE, tokens, weights)
        return tokens, weights

    def counter(self) -> Counter[bytes]:
        """Every word with its count, for reading."""
        flat = self._flat.tobytes()
        ends = self._starts[: self.number + 1].tolist()
        words = [flat[start:end] for start, end in zip(ends, ends[1:], strict=False)]
        return Counter(dict(zip(words, self._counts[: self.number].tolist(), strict=True)))


def _room(old: Any, size: int) -> Any:
    """An array of at least this size that begins as the old one."""
    if size <= len(old):
        return old
    new = np.empty(max(size, 2 * len(old)), old.dtype)
    new[: len(old)] = old
    return new


__all__ = ["WordCounts"]
