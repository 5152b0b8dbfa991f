"""Heads of one layer that keep different numbers of entries.

They become groups: one for all heads that keep equally many, with stores of its own. So what is
held is what is kept, and nothing is padded. Attention over them is `groups.attend_groups`.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import replace

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.errors import LengthwiseError


def keep_by_head(group: HeadGroup, ids: Seq[Tensor]) -> list[HeadGroup]:
    """Keeps entries of `compressible`, as many as each key head names.

    Args:
        group: key heads of one layer. It is changed where all name equally many; else it is to be
            forgotten, as what it holds goes to others.
        ids: by key head of the group, which entries stay: int64 `[n]` each, ascending.

    Returns:
        The groups that take its place, those that keep fewest first.

    Raises:
        LengthwiseError: where entries are encoded, or heads share what cannot be parted.
    """
    rows: dict[int, list[int]] = {}
    for row, mine in enumerate(ids):
        rows.setdefault(len(mine), []).append(row)
    if len(rows) == 1:
        group.keep(torch.stack(list(ids)))
        return [group]
    # What reads prompts alone has no index of entries that go.
    indexed = group.selector is not None and group.reader is None
    if group.compressible.closed or indexed or group.on_evict or group.contexts:
        raise LengthwiseError(
            "heads can keep different numbers of plain entries alone: without a codec that has "
            "encoded them, a selection, or documents that were read apart"
        )
    return [_part(group, rows[count], [ids[row] for row in rows[count]]) for count in sorted(rows)]


def _part(group: HeadGroup, rows: Seq[int], ids: Seq[Tensor]) -> HeadGroup:
    """Some heads of a group, which keep equally many entries, in memory of their own."""
    held = group.compressible.read()
    assert held is not None
    where = torch.tensor(rows, device=held.key.device)
    heads = where if group.heads is None else group.heads[where]
    part = replace(group, heads=heads, near=KVStore(), far=KVStore())
    part.compressible.replace(held.heads(where).take(torch.stack(list(ids)).to(where.device)))
    near = group.near.read() if group.placement.window is not None else None
    if near is not None:
        part.near.replace(near.heads(where))
    return part


__all__ = ["keep_by_head"]
