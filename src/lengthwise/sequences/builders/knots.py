"""What `utk` is made of: lots that need no state, and rows put together token by token."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from lengthwise._utils.counter_rng import uniforms
from lengthwise.sequences.rows import Rows

Thing = TypeVar("Thing")
_AHEAD = 256


class Lots:
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


@dataclass
class Scribe:
    """Writes rows from stretches of the store and from tokens that no document has.

    A token is predicted unless it was written hidden, or what stands before it is `blind`: a knot
    tells nothing about what comes next, nor does the end of a document. The first token of a row is
    predicted from nothing by whoever trains; its flag says only what it is.
    """

    starts: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    counted: array[int] = field(default_factory=lambda: array("b"))
    row_ends: array[int] = field(default_factory=lambda: array("q", [0]))
    added: int = 0
    _blind: bool = False

    def text(self, start: int, length: int, ends: bool) -> None:
        """A stretch of the store. ends: whether its last token is the end of a document."""
        if self._blind:
            self._put(start, 1, False)
            start, length = start + 1, length - 1
        if length:
            self._put(start, length, True)
        self._blind = ends

    def token(self, token: int, hidden: bool, blind: bool) -> None:
        """A token of its own. blind: whether what follows is not to be predicted from it."""
        self._put(-1 - token, 1, not (hidden or self._blind))
        self._blind = blind
        self.added += 1

    def end_row(self) -> None:
        """What was written since the last row is one."""
        self.row_ends.append(len(self.starts))
        self._blind = False

    def rows(self) -> Rows:
        """All rows, each one piece that attention stays within."""
        row_ends = np.frombuffer(self.row_ends, np.int64)
        opens = np.zeros(len(self.starts), bool)
        opens[row_ends[:-1]] = True
        return Rows(
            np.frombuffer(self.starts, np.int64), np.frombuffer(self.lengths, np.int64), row_ends,
            opens, np.frombuffer(self.counted, bool),
        )  # fmt: skip

    def _put(self, start: int, length: int, counted: bool) -> None:
        self.starts.append(start)
        self.lengths.append(length)
        self.counted.append(int(counted))
