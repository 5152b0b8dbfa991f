"""Bytes of what holds keys and values, some of them in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from lengthwise.engine.kv_cache.head_group import HeadGroup


class Held(Protocol):
    """A sequence, or whatever else holds keys and values: a drafter's own cache."""

    def nbytes(self) -> int:
        """KV bytes allocated now."""
        ...

    def groups(self) -> Iterable[tuple[object, HeadGroup]]:
        """The groups of a sequence, each with its layer; others have none."""
        ...


def held_bytes(held: Iterable[Held]) -> int:
    """KV bytes of sequences and other caches, those of shared blocks counted once.

    Args:
        held: in question.
    """
    total, shared = 0, {}
    for each in held:
        total += each.nbytes()
        for _, group in each.groups():
            total -= group.near.shared_bytes
            for block in group.near.shared:
                shared[id(block)] = sum(t.numel() * t.element_size() for t in block.tensors())
    return total + sum(shared.values())


__all__ = ["Held", "held_bytes"]
