"""Heads of a layer that keep unequal numbers of entries."""

from __future__ import annotations

from torch import Tensor

from lengthwise.engine.kv_cache.head_group import HeadGroup


def keep_by_head(group: HeadGroup, keep: Tensor) -> list[HeadGroup]:
    """Keeps of each key head what a mask says; heads of unequal numbers get stores of their own.

    Heads that keep equally many stay together.

    Args:
        group: key heads of one layer, of one placement, without a selector.
        keep: bool `[kv_heads, entries]`, over `group.compressible`.

    Returns:
        The groups that replace it; the same one where all heads keep equally many.
    """
    counts = keep.sum(1)
    if bool((counts == counts[0]).all()):
        group.keep(keep.nonzero()[:, 1].view(len(keep), -1))
        return [group]
    entries = group.compressible.read()
    assert entries is not None
    found = []
    for count in counts.unique().tolist():
        rows = (counts == count).nonzero()[:, 0]
        ids = keep[rows].nonzero()[:, 1].view(len(rows), -1)
        part = HeadGroup(group.placement, rows if group.heads is None else group.heads[rows])
        part.compressible.replace(entries.heads(rows).take(ids))
        found.append(part)
    return found


__all__ = ["keep_by_head"]
