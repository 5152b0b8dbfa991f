"""Stores of several rows in one piece of memory, so that one call reads all of them."""

from __future__ import annotations

from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore


def side_by_side(stores: list[KVStore]) -> tuple[KVEntries, list[int], bool]:
    """The entries of several stores in one piece of memory `[slots, ...]`, moved there where they
    are not yet; the slot of each, and whether they are all that lies there, in their order."""
    if len(stores) == 1:
        (held,) = _allocated(stores)
        return KVEntries(held.key[None], held.value[None], held.index[None]), [0], True
    first = _allocated(stores)[0]
    for store in stores:
        if store.allocated is None:
            store.reserve(first, first.key.shape[1])
    slots = _slots(stores)
    if slots is None:
        _move_together(stores)
        slots = list(range(len(stores)))
    first = _allocated(stores)[0]
    memory = KVEntries(*map(_memory, (first.key, first.value, first.index)))
    return memory, slots, slots == list(range(len(memory.key)))


def _allocated(stores: list[KVStore]) -> list[KVEntries]:
    return [store.allocated for store in stores if store.allocated is not None]


def _slots(stores: list[KVStore]) -> list[int] | None:
    """The slots of stores that lie in one piece of memory; None where they do not."""
    found = {
        tuple(_slot(mine, columns[0]) for mine in columns)
        for columns in zip(*(held.tensors() for held in _allocated(stores)), strict=True)
    }
    if len(found) != 1:
        return None
    (slots,) = found
    return None if None in slots else [slot for slot in slots if slot is not None]


def _slot(mine: Tensor, other: Tensor) -> int | None:
    """In which slot of its memory a tensor lies, if another one lies in such a slot too."""
    alike = mine.shape == other.shape and mine.is_contiguous() and other.is_contiguous()
    there = mine.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    offset, size = mine.storage_offset(), mine.numel()
    return offset // size if alike and there and not offset % size else None


def _memory(tensor: Tensor) -> Tensor:
    """All slots of the memory in one of which a tensor lies."""
    size = tensor.numel()
    slots = tensor.untyped_storage().nbytes() // (size * tensor.element_size())
    return tensor.as_strided((slots, *tensor.shape), (size, *tensor.stride()), 0)


def _move_together(stores: list[KVStore]) -> None:
    held = _allocated(stores)
    capacity = max(each.key.shape[1] for each in held)
    heads = max(each.index.shape[0] for each in held)
    key, value, index = (
        like.new_empty(len(stores), n, capacity, *like.shape[2:])
        for like, n in (
            (held[0].key, held[0].key.shape[0]), (held[0].value, held[0].value.shape[0]),
            (held[0].index, heads),
        )
    )  # fmt: skip
    for row, store in enumerate(stores):
        store.move(KVEntries(key[row], value[row], index[row]))


__all__ = ["side_by_side"]
