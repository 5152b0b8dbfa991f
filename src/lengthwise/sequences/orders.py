"""The order in which documents are taken: a permutation that is asked for in stretches.

`shuffle` and `source` are computed where they are asked; the others are worked out once and lie on
disk as one flat file of document numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from lengthwise._utils.counter_rng import Bijection, Ints, key, permutation
from lengthwise.sequences.files import written_aside
from lengthwise.sequences.token_store import TokenStore

STRETCH = 1 << 16
"""Documents whose numbers are held at once."""


class Order(Protocol):
    """A permutation of all documents, but for a `Stored` one that leaves some out."""

    def documents(self, first: int, stop: int) -> Ints:
        """The documents at places first to stop - 1."""


class Source:
    """As the sources give them."""

    def documents(self, first: int, stop: int) -> Ints:
        return np.arange(first, stop)


class Shuffle:
    """At random, by a seed."""

    def __init__(self, documents: int, seed: int) -> None:
        self._send = Bijection(key(seed, "shuffle"), documents)

    def documents(self, first: int, stop: int) -> Ints:
        return self._send(np.arange(first, stop))


class Stored:
    """Read from a file of int64.

    left_out: tokens of the documents that are not in it, by the reason why.
    """

    def __init__(self, path: Path, left_out: dict[str, int] | None = None) -> None:
        self._path, self.left_out = path, left_out or {}

    @property
    def count(self) -> int:
        """The documents that are in it."""
        return self._path.stat().st_size // 8

    def documents(self, first: int, stop: int) -> Ints:
        return np.fromfile(self._path, np.int64, stop - first, offset=first * 8)


def count_of(order: Order, store: TokenStore) -> int:
    """How many documents an order has."""
    return order.count if isinstance(order, Stored) else store.documents


def by_repository(store: TokenStore, seed: int, path: Path, group_of: Ints | None = None) -> Stored:
    """Repositories at random, the documents of each together as the source gives them.

    group_of: the number of the group that each repository belongs to, where groups of repositories
        are kept together instead.

    Writes the order to `path` unless it is there. Memory: a few numbers a repository.
    """
    if not path.exists():
        sizes = np.zeros(0, np.int64)
        for _, owners in _stretches(store, group_of):
            found = np.bincount(owners, minlength=len(sizes))
            found[: len(sizes)] += sizes
            sizes = found
        shuffled = permutation(key(seed, "by-repository"), len(sizes))
        next_place = np.empty_like(sizes)
        next_place[shuffled] = np.cumsum(sizes[shuffled]) - sizes[shuffled]
        with written_aside(path) as aside:
            _place(store, next_place, aside, group_of)
    return Stored(path)


def _place(store: TokenStore, next_place: Ints, path: Path, group_of: Ints | None) -> None:
    """Writes each document to the next place of its repository: a counting sort."""
    with path.open("w+b") as file:
        file.truncate(store.documents * 8)
        for documents, owners in _stretches(store, group_of):
            order = np.argsort(owners, kind="stable")
            owner = owners[order]
            firsts = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
            counts = np.diff(np.append(firsts, len(owner)))
            for first, count in zip(firsts.tolist(), counts.tolist(), strict=True):
                repository = owner[first]
                file.seek(int(next_place[repository]) * 8)
                file.write(documents[order[first : first + count]].tobytes())
                next_place[repository] += count


def _stretches(store: TokenStore, group_of: Ints | None) -> Iterator[tuple[Ints, Ints]]:
    for first in range(0, store.documents, STRETCH):
        documents = np.arange(first, min(first + STRETCH, store.documents))
        owners = store.repositories(documents)
        yield documents, owners if group_of is None else group_of[owners]
