"""Pruned channels and fewer bits together: what a choice of channels and a format of numbers make.

A codec is one of two kinds, or both in one. A choice of channels (`Channels`) says which channels
of its keys an entry keeps when it is encoded. A format (`Format`) says in which numbers the rest is
stored. Each works alone, and one of each works together. Keys then lose their channels first, and
what is left is quantised, as the authors of ThinK do it with KIVI.

    alone       the prompt but its newest `recent` entries is pruned once; later ones stay whole
    together    whatever the format encodes is pruned, by the channels chosen at the prompt's end;
                the larger of `recent` and `residual` newest entries stays whole

A prompt too short to be encoded at its end is never pruned. A removed channel decodes to zero, so
logits are those of q[kept] . K_kept under the scale that all channels have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lengthwise.engine.kernels.part import Coded, Part
from lengthwise.engine.kv_cache.codec import Channels, Codec, Format
from lengthwise.engine.kv_cache.entries import (
    Deletable,
    Encoded,
    Growing,
    KVEntries,
    Readable,
    Selectable,
    pick,
)
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.retention import CacheUpdate, Phase
from lengthwise.errors import LengthwiseError
from lengthwise.methods.codecs.residual import ResidualCodec, join_index
from lengthwise.models.layer_facts import LayerFacts


def coded(channels: Channels | None, format: Format | None) -> Codec | None:
    """The codec of a choice of channels, a format of numbers, both or neither."""
    if channels is None:
        return format
    return PruneCodec(channels) if format is None else PrunedFormat(channels, format)


class PruneCodec:
    """Removes channels from the keys of a prompt, once."""

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        self.window = channels.window

    def encode(self, store: KVStore, update: CacheUpdate) -> None:
        tail = store.tail
        if update.phase is not Phase.PREFILL or tail is None or tail.log_weight is not None:
            return
        count = len(tail) - self.channels.recent
        if count <= 0 or update.queries is None:
            return
        kept = self.channels.choose(update.queries[:, -self.window :], tail.key)
        block = PlainBlock.make(narrow(tail.slice(0, count), kept))
        store.close(PrunedBlock(block, kept, tail.key.shape[-1]), count)

    def tokens_until_change(self, store: KVStore) -> int | None:
        return None


class PrunedFormat(ResidualCodec):
    """Removes channels from the keys of whatever a format encodes."""

    def __init__(self, channels: Channels, format: Format) -> None:
        super().__init__(max(channels.recent, format.residual), format.step)
        self.channels = channels
        self.format = format
        self.window = max(channels.window, format.window)

    def first(self, entries: KVEntries, tail: KVEntries, update: CacheUpdate) -> Growing:
        if update.phase is not Phase.PREFILL or update.queries is None:
            return self.format.close(entries)
        kept = self.channels.choose(update.queries[:, -self.channels.window :], tail.key)
        return self._pruned(entries, kept)

    def more(self, entries: KVEntries, older: Encoded) -> Growing:
        if not isinstance(older, PrunedBlock):
            return self.format.close(entries)
        return self._pruned(entries, older.kept)

    def close(self, entries: KVEntries) -> Growing:
        return self.format.close(entries)

    def _pruned(self, entries: KVEntries, kept: Tensor) -> PrunedBlock:
        block = self.format.close(narrow(entries, kept))
        return PrunedBlock(block, kept, entries.key.shape[-1])

    def entry_bytes(self, heads: int, key: int, value: int) -> float:
        return self.format.entry_bytes(heads, self.channels.kept(key), value)

    def bytes_held(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        names = 8 * layer.num_kv_heads * self.channels.kept(layer.head_dim)
        return super().bytes_held(layer, dtype, n) + (names if self.encoded(n) else 0)


def narrow(entries: KVEntries, kept: Tensor) -> KVEntries:
    """Entries whose keys have only the channels kept, int64 `[kv_heads, kept]`."""
    return replace(entries, key=entries.key.gather(2, kept[:, None].expand(-1, len(entries), -1)))


@dataclass(frozen=True)
class PlainBlock:
    """Entries as they are, in memory of their own: key, value and index as in KVEntries."""

    key: Tensor
    value: Tensor
    index: Tensor

    @classmethod
    def make(cls, entries: KVEntries) -> PlainBlock:
        return cls(entries.key.clone(), entries.value.clone(), entries.index.clone())

    def __len__(self) -> int:
        return self.key.shape[1]

    def tensors(self) -> list[Tensor]:
        return [self.key, self.value, self.index]

    def join(self, newer: PlainBlock) -> PlainBlock:
        index = join_index(self.index, newer.index)
        key, value = torch.cat([self.key, newer.key], 1), torch.cat([self.value, newer.value], 1)
        return PlainBlock(key, value, index)

    def take(self, ids: Tensor) -> PlainBlock:
        return PlainBlock(*(pick(t, ids) for t in self.tensors()))

    def decode(self) -> KVEntries:
        return KVEntries(self.key, self.value, self.index)

    def decode_some(self, ids: Tensor) -> KVEntries:
        return self.take(ids).decode()

    def decode_keys(self) -> Tensor:
        return self.key

    def read(self, query: Tensor) -> Part:
        return Part(query, self.key, self.value)


@dataclass(frozen=True)
class PrunedBlock:
    """inner: entries whose keys have the channels `kept`, int64 `[kv_heads, kept]`, of head_dim."""

    inner: Growing
    kept: Tensor
    head_dim: int

    @property
    def index(self) -> Tensor:
        return self.inner.index

    def __len__(self) -> int:
        return len(self.inner)

    def tensors(self) -> list[Tensor]:
        return [*self.inner.tensors(), self.kept]

    def join(self, newer: PrunedBlock) -> PrunedBlock:
        return replace(self, inner=self.inner.join(newer.inner))

    def take(self, ids: Tensor) -> PrunedBlock:
        if not isinstance(self.inner, Deletable):
            raise LengthwiseError(f"{type(self.inner).__name__} cannot lose entries one by one")
        return replace(self, inner=self.inner.take(ids))

    def read(self, query: Tensor) -> Part | Coded | None:
        """Of a query only the channels that keys have are read, which gives the same logits."""
        if not isinstance(self.inner, Readable):
            return None
        group = len(query) // len(self.kept)
        kept = self.kept.repeat_interleave(group, 0)[:, None].expand(-1, query.shape[1], -1)
        return self.inner.read(query.gather(2, kept))

    def decode(self) -> KVEntries:
        found = self.inner.decode()
        return replace(found, key=self._spread(found.key))

    def decode_some(self, ids: Tensor) -> KVEntries:
        if not isinstance(self.inner, Selectable):
            return self.decode().take(ids)
        found = self.inner.decode_some(ids)
        return replace(found, key=self._spread(found.key))

    def decode_keys(self) -> Tensor:
        inner = self.inner
        key = inner.decode_keys() if isinstance(inner, Selectable) else inner.decode().key
        return self._spread(key)

    def _spread(self, key: Tensor) -> Tensor:
        """Keys with all their channels. A product with zeros and ones is exact and twice as fast as
        a scatter."""
        one_hot = torch.nn.functional.one_hot(self.kept, self.head_dim).to(key.dtype)
        return torch.bmm(key, one_hot)


__all__ = ["PlainBlock", "PruneCodec", "PrunedBlock", "PrunedFormat", "coded", "narrow"]
