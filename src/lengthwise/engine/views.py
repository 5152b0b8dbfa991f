"""What the queries of a block see of the block itself and of near entries, as parts."""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.engine.attend import Part
from lengthwise.engine.frame import Frame
from lengthwise.engine.group import Group


def rows_together(group: Group, frame: Frame) -> list[slice]:
    """Blocks of queries that plan together; a tree under a selector goes node by node."""
    count = frame.block.count
    selector = group.selector
    if selector is None or not len(group.far) or not frame.selects(selector):
        return [slice(0, count)]
    step = 1 if frame.block.ancestors is not None or frame.decoding else selector.query_block
    assert step is not None
    return [slice(i, min(i + step, count)) for i in range(0, count, step)]


def own_parts(group: Group, frame: Frame, rows: slice) -> tuple[Part | None, Part | None]:
    """The new tokens before these rows, and the rows among themselves."""
    query = frame.near_query[:, rows]
    key, value = frame.near_key, frame.value
    window = None if group.placement.anchored else group.placement.window
    ancestors = frame.block.ancestors
    if ancestors is None and (window is None or frame.block.count <= window):
        past = Part(query, key[:, : rows.start], value[:, : rows.start]) if rows.start else None
        return past, Part(query, key[:, rows], value[:, rows], causal=True)
    index = frame.index
    distance = index[rows, None] - index[None]
    mask = distance >= 0 if ancestors is None else ancestors[rows]
    if window is not None:
        mask = mask & (distance < window)
    return None, Part(query, key, value, mask)


def near_part(group: Group, frame: Frame, rows: slice | Tensor) -> Part | None:
    """Near entries as the queries rows saw them, to sum their probabilities."""
    entries = group.near.read() if group.near.closed else group.near.tail
    if entries is None or not len(entries):
        return None
    mask, window = None, group.placement.window
    if window is not None and not group.placement.anchored:
        mask = entries.index[0][None].long() > (frame.index[rows] - window)[:, None]
    key = entries.key
    if frame.raw_near or group.placement.compact:
        key = frame.rotate_read(entries, group.placement.compact)
    return Part(frame.near_query[:, rows], key, entries.value, mask)


def new_part(frame: Frame, rows: slice | Tensor, ids: Tensor | None) -> Part:
    """The new tokens, or of a tree the accepted ones, as the queries rows saw them."""
    key, value, count = frame.near_key, frame.value, frame.block.count
    mask = frame.block.ancestors
    if mask is None:
        mask = torch.ones(count, count, dtype=torch.bool, device=key.device).tril()
    mask = mask[rows]
    if ids is not None:
        mask, key, value = mask[:, ids], key[:, ids], value[:, ids]
    return Part(frame.near_query[:, rows], key, value, mask)
