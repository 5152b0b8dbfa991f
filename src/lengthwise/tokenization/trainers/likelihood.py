"""Counts of symbols and of pairs of neighbours, and what a merge does to the likelihood of them.

    LL = sum_s c(s) ln c(s) - N ln N         c(s): how often symbol s occurs, N: symbols in all

A merge of (x, y) that occurs m times takes m from c(x), m from c(y) and m from N, and gives m to
c(xy). With f(c) = c ln c (0 at 0):

    gain = f(cx - m) - f(cx) + f(cy - m) - f(cy) + f(cxy + m) - f(cxy) + f(N) - f(N - m)

and for x = y, 2 m from c(x). Runs such as aaa are counted as they are merged, from the left and
without overlap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pair: TypeAlias = tuple[int, int]
Floats: TypeAlias = NDArray[np.float64]


def entropy_term(counts: NDArray[np.int64] | Floats) -> Floats:
    """f(c) = c ln c of each count, 0 at 0; float64 of the same shape.

    Args:
        counts: none below 0.
    """
    counts = np.asarray(counts, np.float64)
    found: Floats = counts * np.log(np.where(counts > 0, counts, 1.0))
    return found


def merge_gain(x: float, y: float, merged: float, times: float, total: float) -> float:
    """What merging two different symbols changes the log-likelihood by, in nats.

    Args:
        x, y, merged: counts of the two and of what they become, before.
        times: how often the one stands before the other.
        total: symbols in all, before.
    """
    before = np.array([x, y, merged, total - times])
    after = np.array([x - times, y - times, merged + times, total])
    return float((entropy_term(after) - entropy_term(before)).sum())


class Symbols:
    """Words as symbols: what each symbol and each pair of neighbours counts.

    names: of each symbol its letters. counts: of each symbol. pairs: of each pair of neighbours.
    """

    def __init__(self, words: dict[str, int], names: list[str]) -> None:
        self.words = list(words)
        self.weights = list(words.values())
        self.names = list(names)
        self.ids = {name: number for number, name in enumerate(names)}
        self.cut: list[list[int]] = []
        self.counts: list[int] = []
        self.pairs: dict[Pair, int] = {}
        self._where: dict[Pair, set[int]] = {}

    @property
    def total(self) -> int:
        """Symbols in all, N."""
        return sum(self.counts)

    def likelihood(self) -> float:
        """LL in nats."""
        counts = np.array(self.counts, np.float64)
        return float(entropy_term(counts).sum() - entropy_term(counts.sum()))

    def rename(self, names: list[str]) -> None:
        """Takes another list of symbols; words are to be segmented by them next.

        Args:
            names: of each symbol its letters.
        """
        self.names = list(names)
        self.ids = {name: number for number, name in enumerate(names)}

    def segment(self, cut: list[list[int]]) -> None:
        """Takes another segmentation, and counts anew.

        Args:
            cut: of each word its symbols.
        """
        self.cut = cut
        self.counts = [0] * len(self.names)
        pairs: defaultdict[Pair, int] = defaultdict(int)
        where: defaultdict[Pair, set[int]] = defaultdict(set)
        for number, (symbols, weight) in enumerate(zip(cut, self.weights, strict=True)):
            for each in symbols:
                self.counts[each] += weight
            for pair in neighbours(symbols):
                pairs[pair] += weight
                where[pair].add(number)
        self.pairs, self._where = dict(pairs), dict(where)

    def merge(self, pair: Pair) -> set[Pair]:
        """Merges a pair wherever it stands. Returns the pairs whose count is another now.

        Args:
            pair: of symbols, with a count above 0.
        """
        name = self.names[pair[0]] + self.names[pair[1]]
        if name not in self.ids:
            self.ids[name] = len(self.names)
            self.names.append(name)
            self.counts.append(0)
        merged, touched = self.ids[name], {pair}
        for number in sorted(self._where[pair]):
            old, weight = self.cut[number], self.weights[number]
            new = _merged(old, pair, merged)
            times = len(old) - len(new)
            self.counts[pair[0]] -= times * weight
            self.counts[pair[1]] -= times * weight
            self.counts[merged] += times * weight
            self._recount(number, old, new, touched)
            self.cut[number] = new
        return touched

    def _recount(self, number: int, old: list[int], new: list[int], touched: set[Pair]) -> None:
        weight = self.weights[number]
        now = list(neighbours(new))
        kept = set(now)
        for each in neighbours(old):
            self.pairs[each] -= weight
            touched.add(each)
            if each not in kept:
                self._where[each].discard(number)
        for each in now:
            self.pairs[each] = self.pairs.get(each, 0) + weight
            self._where.setdefault(each, set()).add(number)
            touched.add(each)


class Gains:
    """The gain of every pair, kept up to date as pairs are merged.

    A gain has a part that only the counts of the pair's symbols decide, which is computed again
    where they change, and one that N decides, which changes with every merge.

    symbols: what is merged. least: how often a pair occurs at least.
    """

    def __init__(self, symbols: Symbols, least: int = 1) -> None:
        self.symbols, self.least = symbols, least
        self._pairs: list[Pair] = []
        self._place: dict[Pair, int] = {}
        self._of: defaultdict[int, set[int]] = defaultdict(set)
        self._own = np.empty(1024)
        self._times = np.zeros(1024)
        self._update(set(symbols.pairs))

    def best(self) -> tuple[Pair, float] | None:
        """The pair of the largest gain, and the gain in nats; the first by letters of several.

        None where there is no pair.
        """
        size, total = len(self._pairs), float(self.symbols.total)
        times = self._times[:size]
        usable = times >= self.least
        if not usable.any():
            return None
        rest = entropy_term(np.array(total)) - entropy_term(np.maximum(total - times, 0.0))
        gains = np.where(usable, self._own[:size] + rest, -np.inf)
        top = gains.max()
        names = self.symbols.names
        # Sums in another order differ in their last digits; what differs less is a tie.
        ties = np.flatnonzero(gains >= top - 1e-9 * max(1.0, abs(top)))
        found = min(
            (self._pairs[each] for each in ties), key=lambda pair: (names[pair[0]], names[pair[1]])
        )
        return found, float(gains[self._place[found]])

    def merge(self, pair: Pair) -> None:
        """Merges a pair, and brings up to date what it changes.

        Args:
            pair: of symbols, with a count above 0.
        """
        touched = self.symbols.merge(pair)
        name = self.symbols.names[pair[0]] + self.symbols.names[pair[1]]
        for symbol in (*pair, self.symbols.ids[name]):
            touched |= {self._pairs[each] for each in self._of[symbol]}
        self._update(touched)

    def _update(self, pairs: set[Pair]) -> None:
        ordered = sorted(pairs)
        for pair in ordered:
            if pair not in self._place:
                self._add(pair)
        places = np.array([self._place[pair] for pair in ordered], np.int64)
        counts, ids, names = self.symbols.counts, self.symbols.ids, self.symbols.names
        x = np.array([counts[one] for one, _ in ordered], np.float64)
        y = np.array([counts[other] for _, other in ordered], np.float64)
        both = [ids.get(names[one] + names[other]) for one, other in ordered]
        merged = np.array([0 if each is None else counts[each] for each in both], np.float64)
        times = np.array([self.symbols.pairs.get(pair, 0) for pair in ordered], np.float64)
        same = np.array([one == other for one, other in ordered], bool)
        own = entropy_term(merged + times) - entropy_term(merged)
        taken = np.where(same, 2 * times, times)
        own += entropy_term(np.maximum(x - taken, 0.0)) - entropy_term(x)
        own += np.where(same, 0.0, entropy_term(np.maximum(y - times, 0.0)) - entropy_term(y))
        self._own[places], self._times[places] = own, times

    def _add(self, pair: Pair) -> None:
        place = len(self._pairs)
        if place == len(self._own):
            self._own = np.concatenate([self._own, np.empty(place)])
            self._times = np.concatenate([self._times, np.zeros(place)])
        self._place[pair] = place
        self._pairs.append(pair)
        for symbol in pair:
            self._of[symbol].add(place)


def neighbours(symbols: list[int]) -> Iterator[Pair]:
    """Each pair of neighbours; of a run of one symbol every second, as they can be merged.

    Args:
        symbols: of a word.
    """
    taken = False
    for one, other in zip(symbols, symbols[1:], strict=False):
        taken = one == other and not taken
        if one != other or taken:
            yield one, other


def _merged(symbols: list[int], pair: Pair, merged: int) -> list[int]:
    found: list[int] = []
    at, last = 0, len(symbols) - 1
    while at <= last:
        if at < last and symbols[at] == pair[0] and symbols[at + 1] == pair[1]:
            found.append(merged)
            at += 2
        else:
            found.append(symbols[at])
            at += 1
    return found


__all__ = ["Gains", "Pair", "Symbols", "entropy_term", "merge_gain", "neighbours"]
