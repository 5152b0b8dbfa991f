"""What several rows keep in one piece of memory, so that one call reads all of them.

It is laid out as `[entries, heads, dim]`, a row after the other, each with the room it has: rows of
any lengths lie side by side without a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore


@dataclass(frozen=True)
class Memory:
    """key, value: `[entries, key_heads, dim]`. index: birth ids int32 `[entries, 1 or key_heads]`.

    starts: the first entry of each row. capacity: entries of the row that has room for most.
    """

    key: Tensor
    value: Tensor
    index: Tensor
    starts: list[int]
    capacity: int

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.key, self.value, self.index


def side_by_side(stores: list[KVStore]) -> Memory:
    """The plain entries of stores, of which one at least has some, in one piece of memory. They are
    moved there where they are not yet; a single store stays where it is."""
    like = next(store.allocated for store in stores if store.allocated is not None)
    for store in stores:
        if store.allocated is None:
            store.reserve(like, like.key.shape[1])
    held = _allocated(stores)
    if len(stores) == 1:
        key, value, index = (t.transpose(0, 1) for t in held[0].tensors())
        return Memory(key, value, index, [0], len(key))
    starts = _starts(held)
    if starts is None:
        _move_together(stores, held)
        held = _allocated(stores)
        starts = _starts(held)
        assert starts is not None
    key, value, index = map(_whole, held[0].tensors())
    return Memory(key, value, index, starts, max(each.key.shape[1] for each in held))


def _allocated(stores: list[KVStore]) -> list[KVEntries]:
    return [store.allocated for store in stores if store.allocated is not None]


def _starts(held: list[KVEntries]) -> list[int] | None:
    """Where each row's entries start in the memory that all lie in; None where they do not."""
    found = {
        tuple(_start(mine, columns[0]) for mine in columns)
        for columns in zip(*(each.tensors() for each in held), strict=True)
    }
    if len(found) != 1:
        return None
    (starts,) = found
    return None if None in starts else [start for start in starts if start is not None]


def _start(mine: Tensor, first: Tensor) -> int | None:
    """Where a tensor `[heads, entries, ...]` starts in the memory of the first one, laid out by
    entries; None where it does not lie there."""
    there = mine.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
    alike = mine.shape[::2] == first.shape[::2] and mine.transpose(0, 1).is_contiguous()
    return mine.storage_offset() // _width(mine) if there and alike else None


def _width(tensor: Tensor) -> int:
    """Numbers of one entry of `[heads, entries, ...]`."""
    return tensor[:, 0].numel()


def _whole(tensor: Tensor) -> Tensor:
    """All of the memory in which a tensor `[heads, entries, ...]` lies, as `[entries, heads,
    ...]`."""
    one = tensor.transpose(0, 1)
    entries = tensor.untyped_storage().nbytes() // (_width(tensor) * tensor.element_size())
    return one.as_strided((entries, *one.shape[1:]), one.stride(), 0)


def _move_together(stores: list[KVStore], held: list[KVEntries]) -> None:
    sizes = [each.key.shape[1] for each in held]
    heads = max(each.index.shape[0] for each in held)
    key, value, index = (
        like.new_empty(sum(sizes), n, *like.shape[2:])
        for like, n in (
            (held[0].key, len(held[0].key)), (held[0].value, len(held[0].value)),
            (held[0].index, heads),
        )
    )  # fmt: skip
    pieces = (t.split(sizes) for t in (key, value, index))
    for store, *memory in zip(stores, *pieces, strict=True):
        store.move(KVEntries(*(t.transpose(0, 1) for t in memory)))


__all__ = ["Memory", "side_by_side"]
