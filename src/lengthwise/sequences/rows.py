"""Rows of tokens that are not there yet: which stretches of the token store each is made of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lengthwise._utils.counter_rng import Ints
from lengthwise.sequences.token_store import TokenStore, ranges


@dataclass(frozen=True)
class Documents:
    """Documents (or, at the ends of a part, the share of one) that a builder is given.

    numbers: of the documents in the store; starts, lengths: of their tokens. All int64 [documents].
    """

    numbers: Ints
    starts: Ints
    lengths: Ints

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())


@dataclass(frozen=True)
class Rows:
    """Row r is made of the stretches row_ends[r] to row_ends[r + 1] - 1, one after another.

    starts: int64 [stretches], of the tokens in the store; -1 - t stands for the token t itself,
        which no document has (its length is 1).
    lengths: int64 [stretches].
    row_ends: int64 [rows + 1], beginning with 0.
    opens: bool [stretches], whether a piece begins there that attention stays within; None where
        each stretch is a piece of its own. The first stretch of a row always opens one.
    counted: bool [stretches], whether its tokens are predicted; None where all are.
    """

    starts: Ints
    lengths: Ints
    row_ends: Ints
    opens: NDArray[np.bool_] | None = None
    counted: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.row_ends) - 1

    def sizes(self) -> Ints:
        """Tokens of each row."""
        ends = np.append(0, np.cumsum(self.lengths))[self.row_ends]
        return np.diff(ends)

    def take(self, rows: Ints) -> Rows:
        """The given rows, in the order given."""
        counts = self.row_ends[rows + 1] - self.row_ends[rows]
        index = ranges(self.row_ends[rows], counts)
        return replace(
            self,
            starts=self.starts[index],
            lengths=self.lengths[index],
            row_ends=np.append(0, np.cumsum(counts)),
            opens=None if self.opens is None else self.opens[index],
            counted=None if self.counted is None else self.counted[index],
        )

    def tokens(self, store: TokenStore) -> NDArray[np.int32]:
        """The tokens of all rows, one row after another."""
        literal = self.starts < 0
        if not literal.any():
            return store.gather(self.starts, self.lengths)
        places = np.cumsum(self.lengths) - self.lengths
        found = np.empty(int(self.lengths.sum()), np.int32)
        found[places[literal]] = -1 - self.starts[literal]
        starts, lengths = self.starts[~literal], self.lengths[~literal]
        found[ranges(places[~literal], lengths)] = store.gather(starts, lengths)
        return found

    def pieces(self) -> tuple[Ints, Ints]:
        """Lengths of the pieces of all rows, and [rows + 1] where each row's begin."""
        if self.opens is None:
            return self.lengths, self.row_ends
        firsts = np.flatnonzero(self.opens)
        before = np.append(0, np.cumsum(self.opens))
        lengths = np.add.reduceat(self.lengths, firsts) if len(firsts) else firsts
        return lengths, before[self.row_ends]


@dataclass
class Built:
    """What a builder made of a part: rows by bucket (0 where a method has none), the tokens that
    are in no row by the reason why, and figures that are summed over parts."""

    rows: dict[int, Rows]
    dropped: dict[str, int] = field(default_factory=dict)
    figures: dict[str, int] = field(default_factory=dict)
