"""Earlier places of the end of a growing text, found by sorted hashes.

Retrieval drafters look them up at every step. A suffix automaton gives the longest match too (see
`suffix_automaton`). Sorted hashes cost a token O(log n) over time instead of a Python object each.
They are searched by a few dozen array operations, whatever the length of the text.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
from numpy.typing import NDArray

# Tokens that are scanned rather than indexed: this many, or an eighth of what is indexed.
TAIL = 1024
# Places compared token by token, the most recent ones that share the longest indexed gram.
CANDIDATES = 48
# As many for every shorter gram, where other continuations are sought.
SHORTER = 8
# Places compared among the tokens that are scanned, where only the shortest gram has been compared.
SCANNED = 96
# An odd multiplier: grams are hashed as polynomials modulo 2**64, and every hit is compared.
BASE = 0x9E3779B97F4A7C15

Tokens = NDArray[np.int64]


class SuffixIndex:
    """Earlier matches of the end of a growing text, longest first.

    Ends of n-grams of `shortest`, twice that, ... tokens lie sorted by hash in arrays. The arrays
    are made for all tokens at once; newer tokens are scanned until they are many. A longest match
    is missed only where more than CANDIDATES newer places share at least half of it.
    """

    def __init__(self, shortest: int, longest: int) -> None:
        self.longest = longest
        self.levels = [shortest]
        while self.levels[-1] * 2 <= longest:
            self.levels.append(self.levels[-1] * 2)
        self._tokens: Tokens = np.empty(0, np.int64)
        self._count = 0
        self._indexed = 0
        self._keys: list[NDArray[np.uint64]] = []
        self._ends: list[Tokens] = []

    def __len__(self) -> int:
        return self._count

    def extend(self, tokens: Seq[int]) -> None:
        """Appends tokens to the text."""
        stop = self._count + len(tokens)
        if stop > len(self._tokens):
            grown = np.empty(max(1024, stop * 5 // 4), np.int64)
            grown[: self._count] = self._tokens[: self._count]
            self._tokens = grown
        self._tokens[self._count : stop] = tokens
        self._count = stop
        if stop - self._indexed > max(TAIL, self._indexed // 8):
            self._rebuild()

    def find(self) -> tuple[int, int]:
        """Place of the last token of the best match, and its length; (0, 0) without one."""
        return next(iter(self.places(1)), (0, 0))

    def places(self, most: int) -> list[tuple[int, int]]:
        """(index of the last token, length) of up to `most` matches, all followed by other tokens.

        The longest match comes first, the most recent among equals.
        """
        count = self._count
        if count <= self.levels[0]:
            return []
        ends = np.concatenate([*self._search(most > 1), self._scan()])
        if not len(ends):
            return []
        back = np.arange(min(self.longest, count - 1))
        places = ends[:, None] - back
        same = (self._tokens[places] == self._tokens[count - 1 - back]) & (places >= 0)
        lengths = np.where(same.all(1), len(back), same.argmin(1))
        order = (lengths * count + ends).argsort()[::-1]
        found: dict[int, tuple[int, int]] = {}
        rows = zip(
            *(x[order].tolist() for x in (self._tokens[ends + 1], ends, lengths)), strict=True
        )
        for token, end, length in rows:
            if length < self.levels[0] or len(found) == most:
                break
            found.setdefault(token, (end, length))
        return list(found.values())

    def after(self, end: int, count: int) -> list[int]:
        """What followed; past the end of the text it repeats itself, as the match does."""
        period = self._count - 1 - end
        found: list[int] = self._tokens[end + 1 : min(end + 1 + count, self._count)].tolist()
        while len(found) < count:
            found.append(found[-period])
        return found

    def _search(self, shorter: bool) -> list[Tokens]:
        """Indexed ends of the longest gram that stands there; of the shorter ones too if asked."""
        suffix = self._tokens[max(0, self._count - self.levels[-1]) : self._count]
        found: list[Tokens] = []
        grams = (key[-1] for key in _hashes(suffix, self.levels))
        for gram, keys, ends in zip(grams, self._keys, self._ends, strict=False):
            start = int(keys.searchsorted(gram))
            if start == len(keys) or keys[start] != gram:
                break
            stop = int(keys.searchsorted(gram, "right"))
            found = [each[-SHORTER:] for each in found] if shorter else []
            found.append(ends[max(start, stop - CANDIDATES) : stop])
        return found

    def _scan(self) -> Tokens:
        """Ends of the shortest gram among the tokens that are not indexed yet, ascending."""
        start, last = max(self._indexed, self.levels[0] - 1), self._count - 1
        match = np.ones(max(0, last - start), bool)
        for back in range(self.levels[0] if len(match) else 0):
            match &= self._tokens[start - back : last - back] == self._tokens[last - back]
        return match.nonzero()[0][-SCANNED:] + start

    def _rebuild(self) -> None:
        # The last token is left out: the text must not be found to match itself.
        self._indexed = self._count - 1
        self._keys, self._ends = [], []
        hashes = _hashes(self._tokens[: self._indexed], self.levels)
        for level, key in zip(self.levels, hashes, strict=False):
            order = key.argsort(kind="stable")
            self._keys.append(key[order])
            self._ends.append(order + (level - 1))


def _hashes(tokens: Tokens, levels: Seq[int]) -> list[NDArray[np.uint64]]:
    """Hashes of all grams of each level that fits: entry i is of the gram that begins at i."""
    found: list[NDArray[np.uint64]] = []
    if len(tokens) < levels[0]:
        return found
    values = tokens.astype(np.uint64) + np.uint64(1)
    key = np.zeros(len(tokens) - levels[0] + 1, np.uint64)
    for shift in range(levels[0]):
        key = key * np.uint64(BASE) + values[shift : shift + len(key)]
    found.append(key)
    for level in levels[:-1]:
        if len(tokens) < 2 * level:
            break
        power = np.uint64(pow(BASE, level, 1 << 64))
        key = key[:-level] * power + key[level:]
        found.append(key)
    return found


__all__ = ["SuffixIndex"]
