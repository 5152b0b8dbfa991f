"""Documents that were read apart, behind one prefix and at the same positions, and read together.

What follows them sees all of their entries, as a part of attention with a temperature and a scale
of its own (Yang et al., "APE", ICLR 2025, arXiv:2502.05431). Their entries are never written:
copies of a sequence share them, and a codec makes new ones.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from lengthwise.engine.kernels.part import Part, Stored, Tempered
from lengthwise.engine.kv_cache.entries import Encoded, KVEntries, concatenate
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.reading import read_encoded


@dataclass(frozen=True)
class ContextWeights:
    """What the documents weigh for a query behind them, against all other keys.

    temperature: T, which their logits are divided by. scale: S; their log-sum-exp is multiplied by
    S T. With 1 and 1 there is one softmax over everything.
    """

    temperature: float = 1.0
    scale: float = 1.0


@dataclass(frozen=True)
class Apart:
    """Which tokens of a sequence are documents that were read apart.

    prefix: tokens before the first of them. lengths: tokens of each, in order.
    """

    prefix: int
    lengths: tuple[int, ...]

    @property
    def stop(self) -> int:
        """The first token behind all of them."""
        return self.prefix + sum(self.lengths)

    @property
    def shared(self) -> int:
        """How many tokens stand at a position that a longer document has too."""
        return sum(self.lengths) - max(self.lengths)


class _Still(KVStore):
    """A store to which nothing will be added."""

    def close(self, block: Encoded, count: int, room: int = 0) -> None:
        super().close(block, count)


class Contexts:
    """What one group of heads holds of all documents.

    stores: one of all documents, or one of each where a codec is to encode them: what is encoded
    must not depend on which documents stand beside it. weights: see there.
    """

    def __init__(self, stores: list[KVStore], weights: ContextWeights) -> None:
        self.stores, self.weights = stores, weights

    @classmethod
    def of(
        cls, documents: Seq[KVEntries], first: int, weights: ContextWeights, encodes: bool
    ) -> Contexts:
        """Those of some documents.

        Args:
            documents: entries of each, which nobody may write to from now on.
            first: birth id of the first of them; the others follow.
            weights: see there.
            encodes: whether a codec will encode them.
        """
        joined = documents if encodes else [concatenate(list(documents))]
        stores: list[KVStore] = []
        for entries in joined:
            store, stop = _Still(), first + len(entries)
            index = torch.arange(first, stop, dtype=torch.int32, device=entries.key.device)[None]
            store.share([KVEntries(entries.key, entries.value, index, entries.log_weight)])
            stores.append(store)
            first = stop
        return cls(stores, weights)

    @classmethod
    def empty(cls, stores: int, weights: ContextWeights) -> Contexts:
        """So many stores that hold nothing yet.

        Args:
            stores: how many.
            weights: see there.
        """
        return cls([_Still() for _ in range(stores)], weights)

    def __deepcopy__(self, memo: dict[int, Any]) -> Contexts:
        stores = [copy.copy(store) for store in self.stores]
        for store in stores:
            store.closed = list(store.closed)
        return Contexts(stores, self.weights)

    def __len__(self) -> int:
        return sum(map(len, self.stores))

    def nbytes(self) -> int:
        return sum(store.nbytes() for store in self.stores)

    def own(self) -> list[KVStore]:
        """The stores, their entries in a copy of their own, as a codec wants them."""
        for store in self.stores:
            store.own()
        return self.stores

    def documents(self, lengths: Seq[int]) -> list[KVEntries]:
        """Entries of each document, none of them encoded.

        Args:
            lengths: tokens of each.
        """
        whole = concatenate([block for store in self.stores for block in store.blocks()])
        ends = [*accumulate(lengths)]
        return [whole.slice(end - n, end) for n, end in zip(lengths, ends, strict=True)]

    def part(self, query: Tensor) -> tuple[Tempered, list[KVEntries]]:
        """What queries behind the documents see of them.

        Args:
            query: `[heads, n, head_dim]`, rotated.

        Returns:
            The part, and the entries that were decoded for it.
        """
        parts: list[Part | Stored] = []
        copied: list[KVEntries] = []
        for store in self.stores:
            found, blocks = read_encoded(store, query)
            copied += blocks[: 0 if found else len(store.closed)]
            parts += found
            parts += [Part(query, b.key, b.value, log_weight=b.log_weight) for b in blocks]
        scale = self.weights.scale * self.weights.temperature
        return Tempered(parts, self.weights.temperature, scale), copied


__all__ = ["Apart", "ContextWeights", "Contexts"]
