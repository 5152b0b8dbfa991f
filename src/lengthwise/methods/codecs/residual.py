"""What codecs with a plain residual share: when entries are closed, and how closed ones grow.

The newest `residual` entries always stay plain. As soon as `step` more have gathered, the oldest of
the plain ones are encoded. They are joined to what is encoded already, so a store has one encoded
block whatever its length. How many are encoded depends only on how many there are, not on how they
came.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import Encoded, Growing, KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.retention import CacheUpdate
from lengthwise.errors import LengthwiseError
from lengthwise.models.layer_facts import LayerFacts


class ResidualCodec(ABC):
    """Encodes all but the newest entries; `close` is the codec proper.

    residual: entries that stay plain at least. step: entries that are encoded at a time.
    Segments with merged entries (`log_weight`) are left alone: retention rewrites those.
    """

    window = 0

    def __init__(self, residual: int, step: int) -> None:
        self.residual = residual
        self.step = step

    @abstractmethod
    def close(self, entries: KVEntries) -> Growing:
        """Encodes entries.

        Args:
            entries: plain ones, a multiple of `step` of them.

        Returns:
            The same entries in this codec's form, in memory of their own.
        """

    @abstractmethod
    def entry_bytes(self, heads: int, key: int, value: int) -> float:
        """Bytes of one encoded entry over all heads, birth id included.

        Args:
            heads: key heads.
            key: channels of a key, a head.
            value: channels of a value, a head.
        """

    def first(self, entries: KVEntries, tail: KVEntries, update: CacheUpdate) -> Growing:
        """The block of a store that has none yet.

        Args:
            entries: those that are encoded.
            tail: all plain entries of the store, these among them.
            update: when this is called, and with what.
        """
        return self.close(entries)

    def more(self, entries: KVEntries, older: Encoded) -> Growing:
        """What is joined to the block that a store has.

        Args:
            entries: those that are encoded.
            older: the block that they are joined to.
        """
        return self.close(entries)

    def encode(self, store: KVStore, update: CacheUpdate) -> None:
        """Closes the oldest plain entries of a store once `step` more than `residual` are there.

        Args:
            store: the entries of one group that may be encoded.
            update: when this is called, and with what.
        """
        tail = store.tail
        if tail is None or tail.log_weight is not None:
            return
        count = (len(tail) - self.residual) // self.step * self.step
        if count <= 0:
            return
        entries = tail.slice(0, count)
        if store.closed:
            older = store.closed.pop()
            block = older.join(self.more(entries, older))  # type: ignore[attr-defined]
        else:
            block = self.first(entries, tail, update)
        # Room up to the next encoding at once: the plain part never moves in between.
        store.close(block, count, self.residual + self.step - (len(tail) - count))

    def tokens_until_change(self, store: KVStore) -> int | None:
        """How far off the next encoding is.

        Args:
            store: as in `encode`.

        Returns:
            Entries that may join the store before it; None where merged entries rule it out.
        """
        tail = store.tail
        if tail is not None and tail.log_weight is not None:
            return None
        return max(1, self.residual + self.step - store.tail_length)

    def encoded(self, n: int) -> int:
        """How many of n entries are encoded.

        Args:
            n: entries of a store.
        """
        return max(0, (n - self.residual) // self.step * self.step)

    def bytes_held(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        """Bytes of a layer after a prompt of n tokens, birth ids and spare room included.

        Args:
            layer: facts of the layer.
            dtype: the model's, in which the residual stays.
            n: tokens of the prompt.
        """
        closed = self.encoded(n)
        plain = layer.entry_numbers * dtype.itemsize + 4
        each = self.entry_bytes(layer.num_kv_heads, layer.head_dim, layer.value_dim)
        return closed * each + (self.residual + self.step if closed else n) * plain


def join_index(older: Tensor, newer: Tensor) -> Tensor:
    """Joins birth ids `[1 or heads, n]`.

    Args:
        older: int32, one row where all heads share them.
        newer: the same of the entries that follow.

    Returns:
        int32 `[1 or heads, older + newer]`; one row where both have one.
    """
    heads = max(len(older), len(newer))
    return torch.cat([older.expand(heads, -1), newer.expand(heads, -1)], 1)


def scale_dtype(dtype: torch.dtype) -> torch.dtype:
    """What scales are stored in: the model's own dtype where it has 16 bits, else float16."""
    return dtype if dtype.itemsize == 2 else torch.float16


def to_scale(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Scales or minima in the dtype they are stored in; raises where they do not fit."""
    stored = x.to(scale_dtype(dtype))
    if not bool(stored.isfinite().all()):
        raise LengthwiseError(
            f"keys or values reach {float(x.abs().max()):.3g}, beyond scales in "
            f"{str(stored.dtype).removeprefix('torch.')}: allowed are finite numbers up to "
            f"{torch.finfo(stored.dtype).max:.3g}; load the model in bfloat16"
        )
    return stored
