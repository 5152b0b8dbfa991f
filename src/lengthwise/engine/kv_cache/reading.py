"""What of a store a kernel reads as it is stored, and what is copied for it first."""

from __future__ import annotations

from torch import Tensor

from lengthwise.engine.kernels import dequantise, gather
from lengthwise.engine.kernels.part import Chosen, Part, Stored
from lengthwise.engine.kv_cache.entries import KVEntries, Readable
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import SelectedKeys


def read_chosen(store: KVStore, query: Tensor, choice: SelectedKeys) -> Chosen | Part | None:
    """Chosen entries where they lie, or copied where that is faster here.

    Args:
        store: where they are.
        query: `[heads, n, head_dim]`, as it meets their keys.
        choice: which they are.

    Returns:
        None where they are encoded or off the device.
    """
    tail = store.tail
    if tail is None or store.closed or store.shared:
        return None
    found = Chosen(query, tail.key, tail.value, choice.ids, choice.mask, tail.log_weight)
    return found if gather.serves(found) else found.part()


def read_encoded(store: KVStore, query: Tensor) -> tuple[list[Part | Stored], list[KVEntries]]:
    """Encoded entries as they are stored, where a kernel can read them so, and the other blocks.

    Args:
        store: some entries.
        query: `[heads, n, head_dim]`, as it meets their keys.

    Returns:
        All encoded blocks, or none of them, and the blocks that are left, in plain form.
    """
    found: list[Part | Stored] = []
    for block in store.closed:
        read = block.read(query) if isinstance(block, Readable) else None
        if read is None or not dequantise.serves(read):
            return [], store.blocks()
        found.append(read)
    if not found:
        return [], store.blocks()
    tail = store.tail
    return found, [tail] if tail is not None and len(tail) else []


def take_by_query_head(store: KVStore, ids: Tensor, heads: int) -> KVEntries:
    """Copies entries, as selected for all heads, for each key head or for each query head.

    Args:
        store: where they are.
        ids: `[m]`, `[kv_heads, m]` or `[heads, m]`.
        heads: query heads.

    Returns:
        The entries; for ids `[heads, m]` with one key head a query head.
    """
    if ids.dim() == 1 or ids.shape[0] == 1:
        return store.take(ids.reshape(-1))
    key_heads = store.key_heads
    if ids.shape[0] == key_heads and key_heads != heads:
        return store.take(ids)
    groups = heads // key_heads
    found = store.take(ids.reshape(key_heads, -1))

    def spread(t: Tensor) -> Tensor:
        return t.reshape(heads, ids.shape[1], *t.shape[2:])

    weight = None if found.log_weight is None else spread(found.log_weight)
    index = found.index.expand(key_heads, -1)
    assert groups * key_heads == heads
    return KVEntries(spread(found.key), spread(found.value), spread(index), weight)


__all__ = ["read_chosen", "read_encoded", "take_by_query_head"]
