"""Bytes of sequences that hold some of their entries in common."""

from __future__ import annotations

from collections.abc import Iterable

from lengthwise.engine.kv_cache.sequence import Sequence


def held_bytes(sequences: Iterable[Sequence]) -> int:
    """KV bytes of sequences, those of shared blocks counted once.

    Args:
        sequences: of one model.
    """
    total, shared = 0, {}
    for sequence in sequences:
        total += sequence.nbytes()
        for _, group in sequence.groups():
            total -= group.near.shared_bytes
            for block in group.near.shared:
                shared[id(block)] = sum(t.numel() * t.element_size() for t in block.tensors())
    return total + sum(shared.values())


__all__ = ["held_bytes"]
