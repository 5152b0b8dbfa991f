"""Interpolated n-gram models of the next token, for several drafts of one text at once.

Contexts of one to five tokens are counted in the text that was read and in
each draft itself. Where a datastore is given, they are counted there too. All pairs of a draft and
a token are looked up by the same few dozen array operations.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
from numpy.typing import NDArray

from lengthwise.retrieval.datastore import Datastore

# Of contexts of one, two, ... tokens: the weights of the conditional frequencies after them.
WEIGHTS = np.array([0.01, 0.04, 0.15, 0.18, 0.12])
LONGEST = len(WEIGHTS)
# Stands before the first token of a text and equals nothing a draft can end with.
BEFORE = -1

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class NgramModels:
    """Weighted conditional frequencies of tokens after each of several drafts.

    Begins with one draft, the empty continuation of text; `take` says how drafts grow.
    """

    def __init__(self, text: Seq[int], store: Datastore | None = None) -> None:
        self._text = _TextCounts(text)
        self._store = _StoreCounts(store, text) if store is not None else None

    def probs(self, tokens: Ints) -> Floats:
        """For each draft and token `[drafts, n]`: sum over context lengths of weight times share
        of the token among all that follows there. 0 where no context has seen the token."""
        counts, totals = self._text.count(tokens)
        if self._store is not None:
            more, all_of_them = self._store.count(tokens)
            counts, totals = counts + more, totals + all_of_them
        shares = counts / np.maximum(totals, 1)[:, :, None]
        found: Floats = np.einsum("dcn,c->dn", shares, WEIGHTS)
        return found

    def take(self, drafts: Seq[int], columns: Seq[int]) -> None:
        """Each new draft is an old one and one of the tokens last asked for, by its column."""
        parents, picked = np.asarray(drafts, np.int64), np.asarray(columns, np.int64)
        self._text.take(parents, picked)
        if self._store is not None:
            self._store.take(parents, picked)


class _TextCounts:
    """Counts over the text and over each draft's own tokens.

    Places of the text lie sorted by their token, so a step looks only at those that end as a draft
    does. tails: int64 `[drafts, LONGEST + own]`, the end of the text and what a draft added.
    """

    def __init__(self, text: Seq[int]) -> None:
        self.text = np.concatenate([np.full(LONGEST, BEFORE), np.asarray(text, np.int64)])
        # The last token is followed by nothing but drafts, which are counted apart.
        self.places = LONGEST + self.text[LONGEST:-1].argsort(kind="stable")
        self.sorted = self.text[self.places]
        self.tails = self.text[None, -LONGEST:]
        self.asked = np.empty(0, np.int64)

    def count(self, tokens: Ints) -> tuple[Ints, Ints]:
        """How often each token, and anything, follows each context of a draft: `[drafts, LONGEST,
        n]` and `[drafts, LONGEST]`."""
        self.asked = tokens
        drafts, length = self.tails.shape
        counts = np.zeros((drafts, LONGEST, len(tokens)), np.int64)
        totals = np.zeros((drafts, LONGEST), np.int64)
        last = self.tails[:, -1]
        starts, stops = self.sorted.searchsorted(last), self.sorted.searchsorted(last, "right")
        ends = [self.places[a:b] for a, b in zip(starts, stops, strict=True)]
        owners = np.arange(drafts).repeat(stops - starts)
        self._follow(self.text, np.concatenate(ends), owners, counts, totals)
        owners, ends_within = (self.tails[:, LONGEST - 1 : -1] == last[:, None]).nonzero()
        within = owners * length + ends_within + LONGEST - 1
        self._follow(self.tails.ravel(), within, owners, counts, totals)
        return counts, totals

    def take(self, drafts: Ints, columns: Ints) -> None:
        self.tails = np.concatenate([self.tails[drafts], self.asked[columns][:, None]], 1)

    def _follow(self, text: Ints, ends: Ints, owners: Ints, counts: Ints, totals: Ints) -> None:
        """Adds what follows at places of text whose token is the last one of the owning draft."""
        drafts, _, size = counts.shape
        for length in range(LONGEST):
            if length:
                wanted = self.tails[owners, -1 - length]
                same = (text[ends - length] == wanted) & (wanted != BEFORE)
                ends, owners = ends[same], owners[same]
            if not len(ends):
                return
            totals[:, length] += np.bincount(owners, minlength=drafts)
            rows, columns = (text[ends + 1][:, None] == self.asked).nonzero()
            cells = np.bincount(owners[rows] * size + columns, minlength=drafts * size)
            counts[:, length] += cells.reshape(drafts, size)


class _StoreCounts:
    """Counts over a datastore, from its suffix array.

    Rows that begin with a context lie side by side, sorted by the token that follows it. So bounds
    of context and token together are found within the bounds of the context. At the next step they
    are the bounds of a context one token longer: no context is ever looked up again.

    bounds: int64 `[drafts, LONGEST + 1, 2]`, rows of the contexts of 0, 1, ... tokens.
    """

    def __init__(self, store: Datastore, text: Seq[int]) -> None:
        self.store = store
        self.root = np.array([0, len(store)])
        self.bounds = np.zeros((1, LONGEST + 1, 2), np.int64)
        self.bounds[:, 0] = self.root
        self.found = np.zeros((1, LONGEST + 1, 1, 2), np.int64)
        for token in text[-LONGEST:]:
            self.count(np.array([token]))
            self.take(np.array([0]), np.array([0]))

    def count(self, tokens: Ints) -> tuple[Ints, Ints]:
        """As `_TextCounts.count`; what ends a document is followed by nothing."""
        # Token 0 is the smallest there is: rows before it end a document.
        wanted = np.concatenate([[0], tokens, tokens + 1])
        bounds = self._lower(wanted)
        size = len(tokens)
        self.found = np.stack([bounds[:, :, 1 : size + 1], bounds[:, :, size + 1 :]], -1)
        counts = self.found[:, 1:, :, 1] - self.found[:, 1:, :, 0]
        return counts, self.bounds[:, 1:, 1] - bounds[:, 1:, 0]

    def take(self, drafts: Ints, columns: Ints) -> None:
        grown = self.found[drafts, :-1, columns]
        root = np.broadcast_to(self.root, (len(drafts), 1, 2))
        self.bounds = np.concatenate([root, grown], 1)

    def _lower(self, wanted: Ints) -> Ints:
        """First row of each context whose next token is not below a wanted one:
        `[drafts, LONGEST + 1, wanted]`."""
        shape = (*self.bounds.shape[:2], len(wanted))
        low = np.broadcast_to(self.bounds[:, :, :1], shape)
        high = np.broadcast_to(self.bounds[:, :, 1:], shape)
        depth = np.arange(LONGEST + 1)[None, :, None]
        last = len(self.store) - 1
        for _ in range(int((high - low).max()).bit_length()):
            middle = (low + high) >> 1
            # A search that has ended looks at one row too many, and is told to stay.
            place = self.store.suffixes[np.minimum(middle, last)] + depth
            below = (self.store.tokens[np.minimum(place, last)] < wanted) & (low < high)
            low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
        return low
