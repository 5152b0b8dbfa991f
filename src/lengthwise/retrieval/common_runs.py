"""Runs of tokens that a new text shares with stored ones, at any place of either."""

from __future__ import annotations

from collections.abc import Hashable, Sequence as Seq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Stored places of one gram that are compared token by token, the newest ones.
CANDIDATES = 64
# An odd multiplier: grams are hashed as polynomials modulo 2**64, and every hit is compared.
BASE = 0x9E3779B97F4A7C15
# Tokens that are compared at first; each time all are equal, twice as many are next.
BLOCK = 64

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class CommonRun:
    """Tokens `start : start + length` of a text, which are those of a stored text from `source`."""

    key: Hashable
    source: int
    start: int
    length: int


class RunIndex:
    """Stored texts by their grams of `least` tokens, sorted by hash.

    The arrays are made anew when a text was added or removed since they were last asked.
    """

    def __init__(self, least: int) -> None:
        self.least = least
        self._texts: dict[Hashable, Tokens] = {}
        self._grams: NDArray[np.uint64] | None = None
        self._owners: list[Hashable] = []
        self._owner: Tokens = np.empty(0, np.int64)
        self._place: Tokens = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, key: Hashable, tokens: Seq[int]) -> None:
        """Stores a text.

        Args:
            key: names it.
            tokens: its ids.
        """
        self._texts[key] = np.asarray(list(tokens), np.int64)
        self._grams = None

    def remove(self, key: Hashable) -> None:
        """Forgets a text.

        Args:
            key: names it.
        """
        del self._texts[key]
        self._grams = None

    def find(self, tokens: Seq[int]) -> list[CommonRun]:
        """The longest shared run from the left, then the longest behind it, and so on.

        Runs have at least `least` tokens and do not overlap. At the beginning of the text a stored
        text's own beginning is taken first, which is the same in both.

        Args:
            tokens: ids of the new text.
        """
        text = np.asarray(list(tokens), np.int64)
        asked = _hashes(text, self.least)
        grams = self._sorted()
        low, high = grams.searchsorted(asked), grams.searchsorted(asked, "right")
        hits = np.flatnonzero(low < high)
        found: list[CommonRun] = []
        stop = 0
        for start in hits.tolist():
            if start < stop:
                continue
            run = self._longest(
                text, start, slice(max(low[start], high[start] - CANDIDATES), high[start])
            )
            if run is not None:
                found.append(run)
                stop = run.start + run.length
        return found

    def _longest(self, text: Tokens, start: int, candidates: slice) -> CommonRun | None:
        best: tuple[bool, int, CommonRun] | None = None
        for owner, place in zip(self._owner[candidates], self._place[candidates], strict=True):
            key, source = self._owners[owner], int(place)
            length = _same(text[start:], self._texts[key][source:])
            rank = start == source == 0, length
            if length >= self.least and (best is None or rank > best[:2]):
                best = (*rank, CommonRun(key, source, start, length))
        return None if best is None else best[2]

    def _sorted(self) -> NDArray[np.uint64]:
        if self._grams is None:
            self._owners = list(self._texts)
            each = [_hashes(text, self.least) for text in self._texts.values()]
            grams = np.concatenate([np.empty(0, np.uint64), *each])
            owner = np.repeat(np.arange(len(each)), [len(one) for one in each])
            place = np.concatenate([np.empty(0, np.int64), *(np.arange(len(one)) for one in each)])
            order = grams.argsort(kind="stable")
            self._grams, self._owner, self._place = grams[order], owner[order], place[order]
        return self._grams


def _hashes(tokens: Tokens, size: int) -> NDArray[np.uint64]:
    """Of the gram of `size` tokens that begins at each place."""
    count = max(0, len(tokens) - size + 1)
    values, key = tokens.astype(np.uint64) + np.uint64(1), np.zeros(count, np.uint64)
    for shift in range(size if count else 0):
        key = key * np.uint64(BASE) + values[shift : shift + count]
    return key


def _same(first: Tokens, second: Tokens) -> int:
    """Equal tokens at the beginning of both."""
    most = min(len(first), len(second))
    first, second, start, size = first[:most], second[:most], 0, BLOCK
    while start < most:
        unequal = np.flatnonzero(first[start : start + size] != second[start : start + size])
        if len(unequal):
            return start + int(unequal[0])
        start, size = start + size, 2 * size
    return most


__all__ = ["CommonRun", "RunIndex"]
