"""Entries of a cache: keys and values with the birth ids of their tokens, plain or in a codec's
form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from lengthwise.engine.kernels.part import Coded, Part, take_rows


@dataclass(frozen=True)
class KVEntries:
    """Plain tensors of n entries.

    Attributes:
        key: `[heads, n, head_dim]`.
        value: `[heads, n, value_dim]`.
        index: birth ids, ascending, int32 `[1 or heads, n]`.
        log_weight: float32 `[heads, n]`, or None.
        attention_mass: float32 `[heads, n]`, or None: whatever an observer accumulates, for H2O the
            probability received.
    """

    key: Tensor
    value: Tensor
    index: Tensor
    log_weight: Tensor | None = None
    attention_mass: Tensor | None = None

    def __len__(self) -> int:
        return self.key.shape[1]

    def tensors(self) -> list[Tensor]:
        found = [self.key, self.value, self.index, self.log_weight, self.attention_mass]
        return [t for t in found if t is not None]

    def slice(self, start: int, stop: int) -> KVEntries:
        """A range of the entries, as views of the same memory.

        Args:
            start: the first of them.
            stop: the first that is left out.
        """
        # Called for every layer of every step, hence spelled out.
        weight, attention_mass = self.log_weight, self.attention_mass
        return KVEntries(
            self.key[:, start:stop],
            self.value[:, start:stop],
            self.index[:, start:stop],
            None if weight is None else weight[:, start:stop],
            None if attention_mass is None else attention_mass[:, start:stop],
        )

    def take(self, ids: Tensor) -> KVEntries:
        """Copies some entries.

        Args:
            ids: which ones, int64: `[n]` shared by all heads, or `[heads, n]`.
        """
        return self._map(lambda t: pick(t, ids))

    def heads(self, ids: Tensor) -> KVEntries:
        """The entries of some key heads. An index that all heads share stays shared.

        Args:
            ids: which heads, int64 `[m]`.
        """
        return self._map(lambda t: t if t.shape[0] == 1 and len(self.key) > 1 else t[ids])

    def clone(self) -> KVEntries:
        """The same entries in memory of their own."""
        return self._map(Tensor.clone)

    def _map(self, function: _TensorFunction) -> KVEntries:
        optional = (
            None if t is None else function(t) for t in (self.log_weight, self.attention_mass)
        )
        return KVEntries(function(self.key), function(self.value), function(self.index), *optional)


class _TensorFunction(Protocol):
    def __call__(self, tensor: Tensor, /) -> Tensor: ...


def pick(t: Tensor, ids: Tensor) -> Tensor:
    """Copies some entries of a tensor.

    Args:
        t: `[1 or heads, entries, ...]`.
        ids: which ones, int64 `[n]` or `[heads, n]`.
    """
    if ids.dim() == 1:
        return take_rows(t, ids.expand(len(t), -1))
    return take_rows(t.expand(len(ids), *t.shape[1:]), ids)


def concatenate(blocks: list[KVEntries]) -> KVEntries:
    """Joins blocks of the same heads along their entries.

    Args:
        blocks: at least one. Where some lack a weight or an attention mass, theirs is 0.
    """
    if len(blocks) == 1:
        return blocks[0]
    heads = blocks[0].key.shape[0]
    index = [b.index for b in blocks]
    if any(i.shape[0] != index[0].shape[0] for i in index):
        index = [i.expand(heads, -1) for i in index]

    def join(name: str) -> Tensor | None:
        found = [getattr(b, name) for b in blocks]
        if all(t is None for t in found):
            return None
        return torch.cat(
            [b.key.new_zeros(heads, len(b), dtype=torch.float32) if t is None else t
             for b, t in zip(blocks, found, strict=True)], 1)  # fmt: skip

    return KVEntries(
        torch.cat([b.key for b in blocks], 1), torch.cat([b.value for b in blocks], 1),
        torch.cat(index, 1), join("log_weight"), join("attention_mass"),
    )  # fmt: skip


class Encoded(Protocol):
    """Entries in a codec's form. `decode` gives them back in the order they were closed."""

    @property
    def index(self) -> Tensor:
        """int32 `[1 or heads, n]`."""
        ...

    def __len__(self) -> int: ...

    def tensors(self) -> list[Tensor]:
        """Everything allocated, for counting bytes."""
        ...

    def decode(self) -> KVEntries: ...


class Growing(Encoded, Protocol):
    """An encoded block that newer ones of its kind can be joined to."""

    def join(self, newer: Self) -> Self:
        """Joins two blocks without decoding either.

        Args:
            newer: the block whose entries come after this one's.

        Returns:
            Both, this one's entries first.
        """
        ...


@runtime_checkable
class Readable(Encoded, Protocol):
    """Encoded entries that a kernel may attend to as they are stored."""

    def read(self, query: Tensor) -> Part | Coded | None:
        """What queries see of the entries, without decoding them.

        Args:
            query: `[heads, n, head_dim]`, rotated as the keys are.

        Returns:
            All entries as a part, or coded; None where these cannot be read so.
        """
        ...


@runtime_checkable
class Selectable(Encoded, Protocol):
    """Encoded entries some of which, or whose keys alone, can be decoded."""

    def decode_some(self, ids: Tensor) -> KVEntries:
        """Decodes some entries: what `decode` gives for them, to the bit.

        Args:
            ids: which ones, int64 `[n]` or `[heads, n]`, in any order.
        """
        ...

    def decode_keys(self) -> Tensor:
        """The keys that `decode` gives, `[heads, n, head_dim]`."""
        ...


@runtime_checkable
class Deletable(Encoded, Protocol):
    """Encoded entries that can lose some of themselves without being decoded."""

    def take(self, ids: Tensor) -> Self:
        """Copies some entries without decoding them.

        Args:
            ids: which ones, int64 `[n]` or `[heads, n]`, ascending.

        Returns:
            Only these entries, in memory of its own.
        """
        ...
