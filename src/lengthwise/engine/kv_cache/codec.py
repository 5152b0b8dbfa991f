"""What the cache asks of a codec: entries in another form, or fewer channels of their keys."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from lengthwise.engine.kv_cache.entries import Growing, KVEntries, KVStore
from lengthwise.engine.kv_cache.retention import CacheUpdate


class Codec(Protocol):
    """Encodes entries in place; one object per layer and sequence.

    window: how many of the prompt's last queries it wants at the end of prefill (0: none).
    """

    window: int

    def encode(self, store: KVStore, update: CacheUpdate) -> None:
        """May close the oldest plain entries of the store into an encoded block.

        Called at PREFILL and at every DECODE, for each group of heads of the layer.

        Args:
            store: the entries of the group that are compressible. `store.close` takes a block.
            update: when it is called, with the queries of the heads that read the store.
        """
        ...

    def tokens_until_change(self, store: KVStore) -> int | None:
        """Entries that may join the store before the next encoding.

        Drafts never cross it, so that drafting reads what plain decoding would read.

        Returns:
            A number of entries; None is any number.
        """
        ...


class Channels(Protocol):
    """Chooses which channels of its keys an encoded entry keeps; one object per layer and sequence.

    window: how many of the prompt's last queries it wants at the end of prefill. recent: newest
    entries of the prompt whose keys stay whole.
    """

    window: int
    recent: int

    def kept(self, head_dim: int) -> int:
        """How many of `head_dim` channels stay."""
        ...

    def choose(self, queries: Tensor, key: Tensor) -> Tensor:
        """The channels that stay.

        Args:
            queries: the prompt's last ones, `[heads, window, head_dim]`, as attention sees them.
            key: `[kv_heads, n, head_dim]`, as attention sees them.

        Returns:
            int64 `[kv_heads, kept]`, ascending.
        """
        ...


class Format(Codec, Protocol):
    """A codec that rewrites the numbers of entries, however many channels their keys have.

    residual: newest entries that stay plain at least. step: entries encoded at a time.
    """

    residual: int
    step: int

    def close(self, entries: KVEntries) -> Growing:
        """Encodes entries.

        Args:
            entries: a multiple of `step` of them.

        Returns:
            Their encoded form, in memory of its own.
        """
        ...

    def entry_bytes(self, heads: int, key: int, value: int) -> float:
        """Bytes of one encoded entry, birth id included.

        Args:
            heads: key heads.
            key: channels of a key of one head.
            value: channels of a value of one head.
        """
        ...
