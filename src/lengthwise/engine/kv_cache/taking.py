"""What is copied of several blocks: some of their entries, or all of their keys.

Of encoded blocks no other entries are decoded, and no values beside keys, where their codec can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import Encoded, KVEntries, Selectable, concatenate


def some_entries(blocks: Sequence[KVEntries | Encoded], ids: Tensor) -> tuple[KVEntries, int]:
    """Copies some entries.

    Args:
        blocks: of the same heads, oldest first, none of them empty.
        ids: which ones, int64 `[n]` or `[heads, n]`, counted over all blocks.

    Returns:
        The entries in plain form, and the most bytes of keys and values that were held for them,
            their own included.
    """
    if ids.shape[-1] * len(blocks) >= sum(map(len, blocks)):
        # To look in every block for each of so many costs more than to read all.
        whole = concatenate([b if isinstance(b, KVEntries) else b.decode() for b in blocks])
        found = whole.take(ids)
        return found, _bytes([found] if whole is blocks[0] else [whole, found])
    plain = _selectable(blocks)
    parts: list[KVEntries] = []
    start = 0
    for block in plain:
        # Each id is looked for in every block, so that nothing waits to hear where it lies.
        inside = (ids - start).clamp_(0, len(block) - 1)
        rows = block.take(inside) if isinstance(block, KVEntries) else block.decode_some(inside)
        parts = [laid_over(rows, parts[0], ids >= start), parts[0], rows] if parts else [rows]
        start += len(block)
    return parts[0], _bytes([*_decoded(plain, blocks), *parts])


def every_key(blocks: Sequence[KVEntries | Encoded]) -> tuple[Tensor, int]:
    """The keys of all blocks.

    Args:
        blocks: of the same heads, oldest first, at least one.

    Returns:
        `[heads, n, head_dim]`, and the most bytes of keys and values that were copied for them.
    """
    plain = _selectable(blocks)
    keys = [b.key if isinstance(b, KVEntries) else b.decode_keys() for b in plain]
    found = keys[0] if len(keys) == 1 else torch.cat(keys, 1)
    made = [key for key, b in zip(keys, plain, strict=True) if not isinstance(b, KVEntries)]
    made += [found] if len(keys) > 1 else []
    return found, _bytes(_decoded(plain, blocks)) + sum(key.nbytes for key in made)


def laid_over(new: KVEntries, old: KVEntries, where: Tensor) -> KVEntries:
    """As many entries of two blocks.

    Args:
        new: taken where `where` is True. Where one block lacks a weight or an attention mass, its
            is 0.
        old: taken elsewhere.
        where: bool `[n]` or `[heads, n]`.
    """

    def either(name: str) -> Tensor | None:
        pair = getattr(new, name), getattr(old, name)
        like = next((t for t in pair if t is not None), None)
        if like is None:
            return None
        mine, theirs = (like.new_zeros(()) if t is None else t for t in pair)
        return torch.where(where.view(*where.shape, *(1,) * (like.dim() - 2)), mine, theirs)

    return KVEntries(*(either(field.name) for field in fields(KVEntries)))  # type: ignore[arg-type]


def joined(blocks: tuple[KVEntries, ...], most: int) -> tuple[KVEntries, ...]:
    """The same entries in at most so many blocks, of which the smallest are copied."""
    found = list(blocks)
    while len(found) > most:
        sizes = [len(block) + len(found[place]) for place, block in enumerate(found[:-1], 1)]
        place = sizes.index(min(sizes))
        found[place : place + 2] = [concatenate(found[place : place + 2])]
    return tuple(found)


def _selectable(blocks: Sequence[KVEntries | Encoded]) -> list[KVEntries | Selectable]:
    """Those that can give some of their entries alone; the others are decoded."""
    return [b if isinstance(b, KVEntries | Selectable) else b.decode() for b in blocks]


def _decoded(
    plain: Sequence[KVEntries | Selectable], blocks: Sequence[KVEntries | Encoded]
) -> list[KVEntries]:
    """What `_selectable` had to decode."""
    pairs = zip(plain, blocks, strict=True)
    return [b for b, stored in pairs if isinstance(b, KVEntries) and b is not stored]


def _bytes(entries: Sequence[KVEntries]) -> int:
    return sum(t.nbytes for each in entries for t in (each.key, each.value))


__all__ = ["every_key", "joined", "laid_over", "some_entries"]
