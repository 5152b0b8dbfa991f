"""What `utk` writes: rows put together token by token."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np

from lengthwise.sequences.rows import Rows


@dataclass
class RowWriter:
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
