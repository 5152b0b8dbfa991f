"""Random numbers that need no state: a number is a function of a key and a counter.

So any part of a data set can be built alone, on any machine, in any order, and comes out the same.
The mixing function is the finaliser of SplitMix64.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Thing = TypeVar("Thing")

# Numbers that `CounterRng` makes at once.
_AHEAD = 256
_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def key(seed: int, *purpose: str | int) -> int:
    """A 64-bit key for one purpose, such as `key(seed, "rows", part)`."""
    text = "/".join(str(word) for word in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def words(key: int, counters: NDArray[np.integer]) -> Words:
    """64 random bits for each counter, of the counters' shape."""
    with np.errstate(over="ignore"):
        z = counters.astype(np.uint64) * _GAMMA + np.uint64(key)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniforms(key: int, counters: NDArray[np.integer]) -> NDArray[np.float64]:
    """Numbers in [0, 1), one for each counter."""
    return (words(key, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(key: int, count: int) -> Ints:
    """The numbers 0 to count - 1 in random order."""
    return np.argsort(words(key, np.arange(count)), kind="stable")


class Bijection:
    """A random permutation of `count` numbers, any stretch of which costs no memory but its own.

    A Feistel network over the next power of two; what falls outside is sent through it again until
    it falls inside, which keeps it one-to-one.
    """

    _ROUNDS = 8

    def __init__(self, key: int, count: int) -> None:
        self._keys = [(key + step) % (1 << 64) for step in range(self._ROUNDS)]
        self._count = count
        bits = max(2, (count - 1).bit_length())
        self._low = bits // 2
        self._high = bits - self._low

    def __call__(self, numbers: Ints) -> Ints:
        """Where the permutation sends `numbers`, all of them below count."""
        out = self._once(numbers.astype(np.uint64))
        while (outside := np.flatnonzero(out >= self._count)).size:
            out[outside] = self._once(out[outside])
        return out.astype(np.int64)

    def _once(self, numbers: Words) -> Words:
        low_mask = np.uint64((1 << self._low) - 1)
        high_mask = np.uint64((1 << self._high) - 1)
        low, high = numbers & low_mask, numbers >> np.uint64(self._low)
        for step, key in enumerate(self._keys):
            if step % 2:
                low = low ^ (words(key, high) & low_mask)
            else:
                high = high ^ (words(key, low) & high_mask)
        return high << np.uint64(self._low) | low


class CounterRng:
    """Random numbers drawn one after another from a key."""

    def __init__(self, key: int) -> None:
        self._key, self._drawn = key, 0
        self._ahead: list[float] = []

    def uniform(self) -> float:
        """In [0, 1)."""
        if not self._ahead:
            counters = np.arange(self._drawn, self._drawn + _AHEAD)
            self._ahead = uniforms(self._key, counters)[::-1].tolist()
            self._drawn += _AHEAD
        return self._ahead.pop()

    def below(self, count: int) -> int:
        """A whole number from 0 to count - 1."""
        return int(self.uniform() * count)

    def distinct(self, wanted: int, count: int) -> list[int]:
        """`wanted` different numbers below `count`, rising (Floyd's sampling)."""
        found: set[int] = set()
        for top in range(count - wanted, count):
            drawn = self.below(top + 1)
            found.add(top if drawn in found else drawn)
        return sorted(found)

    def shuffled(self, things: list[Thing]) -> list[Thing]:
        """The things in random order (Fisher and Yates)."""
        out = list(things)
        for last in range(len(out) - 1, 0, -1):
            other = self.below(last + 1)
            out[last], out[other] = out[other], out[last]
        return out


__all__ = ["Bijection", "CounterRng", "Ints", "Words", "key", "permutation", "uniforms", "words"]
