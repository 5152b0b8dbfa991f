"""Documents set apart from the text around them: how they stand, and where their entries are.

A rule says it (`ContextRule`). Documents that have stores of their own are parts of attention for
what follows them. Their entries are never written: copies of a sequence share them, and a codec
makes new ones. Those of APE were read behind one prefix at the same positions, and have a
temperature and a scale (Yang et al., ICLR 2025, arXiv:2502.05431).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kernels.part import AnyPart, Part, Stored, Tempered
from lengthwise.engine.kv_cache.entries import Encoded, KVEntries, concatenate
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.reading import read_encoded
from lengthwise.engine.kv_cache.step_metadata import LayerInputs


class ContextRule(ABC):
    """How documents stand to each other, and to what follows them.

    does: what a recipe does that has such documents, in words. beside: they have stores of their
    own, beside that of the text. joins: each was read unseen by the others, so that sessions of
    them can be joined. order_free: what comes out does not depend on their order.
    """

    does: ClassVar[str]
    beside: ClassVar[bool] = True
    joins: ClassVar[bool] = False
    order_free: ClassVar[bool] = False

    @abstractmethod
    def parts(
        self, contexts: Contexts, inputs: LayerInputs, rows: slice
    ) -> tuple[list[AnyPart], list[KVEntries]]:
        """What queries behind the documents see of them.

        Args:
            contexts: what a group of heads holds of the documents.
            inputs: the new tokens in this layer.
            rows: which of their queries.

        Returns:
            The parts, and the entries that were copied for them.
        """


@dataclass(frozen=True)
class FractionalSteps(ContextRule):
    """Documents one behind the other, each token of which advances the position by a fraction.

    Text around them advances by 1 and stands at whole positions (Ge et al., "V2PE",
    arXiv:2412.09616). Their entries are among those of the text.

    delta: the fraction.
    """

    does: ClassVar[str] = "steps through documents by fractions of a position"
    beside: ClassVar[bool] = False
    delta: float = 1.0

    def places(self, start: int, lengths: Seq[int]) -> tuple[Tensor, int]:
        """Where the tokens of documents stand, and what follows them.

        Args:
            start: position of the first token behind the prefix, were it text.
            lengths: tokens of each document.

        Returns:
            Positions float64 `[tokens]`, and that of the first token behind all documents.
        """
        found, last = [], start - 1
        for length in lengths:
            found.append(last + self.delta * torch.arange(1, length + 1, dtype=torch.float64))
            last = int(found[-1][-1].ceil())
        return torch.cat(found), last + 1

    def parts(
        self, contexts: Contexts, inputs: LayerInputs, rows: slice
    ) -> tuple[list[AnyPart], list[KVEntries]]:
        raise AssertionError("documents in fractional steps are entries of the text")


@dataclass(frozen=True)
class ContextWeights(ContextRule):
    """What the documents weigh for a query behind them, against all other keys.

    temperature: T, which their logits are divided by. scale: S; their log-sum-exp is multiplied by
    S T. With 1 and 1 there is one softmax over everything.
    """

    does: ClassVar[str] = "joins documents that were read apart"
    joins: ClassVar[bool] = True
    order_free: ClassVar[bool] = True
    temperature: float = 1.0
    scale: float = 1.0

    def parts(
        self, contexts: Contexts, inputs: LayerInputs, rows: slice
    ) -> tuple[list[AnyPart], list[KVEntries]]:
        query = inputs.near_query[:, rows]
        parts: list[Part | Stored] = []
        copied: list[KVEntries] = []
        for store in contexts.stores:
            found, blocks = read_encoded(store, query)
            copied += blocks[: 0 if found else len(store.closed)]
            parts += found
            parts += [Part(query, b.key, b.value, log_weight=b.log_weight) for b in blocks]
        return [Tempered(parts, self.temperature, self.scale * self.temperature)], copied


@dataclass(frozen=True)
class Apart:
    """Which tokens of a sequence are documents that are set apart from the text around them.

    prefix: tokens before the first of them. lengths: tokens of each, in order. shared: how many
    fewer positions they take than tokens.
    """

    prefix: int
    lengths: tuple[int, ...]
    shared: int = 0

    @property
    def stop(self) -> int:
        """The first token behind all of them."""
        return self.prefix + sum(self.lengths)


@dataclass(frozen=True)
class Places:
    """Where tokens stand that are about to be read, if not one behind the other.

    start: birth id of the first of them. positions: int64 or float32 `[tokens]`.
    """

    start: int
    positions: Tensor

    def at(self, index: Tensor) -> Tensor:
        """Positions of some of them.

        Args:
            index: birth ids int64 `[n]`.
        """
        return self.positions.to(index.device)[index - self.start]


class _Still(KVStore):
    """A store to which nothing will be added."""

    def close(self, block: Encoded, count: int, room: int = 0) -> None:
        super().close(block, count)


class Contexts:
    """What one group of heads holds of all documents.

    stores: one of all documents, or one of each. What a codec encodes must not depend on which
    documents stand beside it. rule: how they stand. stop: birth id of the first token behind them.
    """

    def __init__(self, stores: list[KVStore], rule: ContextRule, stop: int) -> None:
        self.stores, self.rule, self.stop = stores, rule, stop

    @classmethod
    def of(cls, documents: Seq[KVEntries], first: int, rule: ContextRule, each: bool) -> Contexts:
        """Those of some documents.

        Args:
            documents: entries of each, which nobody may write to from now on.
            first: birth id of the first of them; the others follow.
            rule: how they stand.
            each: whether each has a store of its own.
        """
        joined = documents if each else [concatenate(list(documents))]
        stores: list[KVStore] = []
        for entries in joined:
            store, stop = _Still(), first + len(entries)
            index = torch.arange(first, stop, dtype=torch.int32, device=entries.key.device)[None]
            store.share([KVEntries(entries.key, entries.value, index, entries.log_weight)])
            stores.append(store)
            first = stop
        return cls(stores, rule, first)

    @classmethod
    def empty(cls, stores: int, rule: ContextRule, stop: int) -> Contexts:
        """So many stores that hold nothing yet.

        Args:
            stores: how many.
            rule: how their documents stand.
            stop: birth id of the first token behind them.
        """
        return cls([_Still() for _ in range(stores)], rule, stop)

    def __deepcopy__(self, memo: dict[int, Any]) -> Contexts:
        stores = [copy.copy(store) for store in self.stores]
        for store in stores:
            store.closed = list(store.closed)
        return Contexts(stores, self.rule, self.stop)

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

    def parts(self, inputs: LayerInputs, rows: slice) -> list[AnyPart]:
        """What queries behind the documents see of them.

        Args:
            inputs: the new tokens in this layer, where copies are noted.
            rows: which of their queries.
        """
        found, copied = self.rule.parts(self, inputs, rows)
        inputs.note_transient(copied)
        return found


__all__ = ["Apart", "ContextRule", "ContextWeights", "Contexts", "FractionalSteps", "Places"]
