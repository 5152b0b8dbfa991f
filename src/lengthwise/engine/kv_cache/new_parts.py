"""What the queries of a block see of the block itself and of near entries, as parts."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lengthwise.engine.attention.attend import Part
from lengthwise.engine.kv_cache.head_group import Group
from lengthwise.engine.kv_cache.step_metadata import Block, Frame


def pieces(group: Group, block: Block) -> list[slice]:
    """Rows of a text that are read one after another, because a selection plans for so many."""
    whole, window = [slice(0, block.count)], group.placement.window
    if group.selector is None or block.ancestors is not None or window is None:
        return whole
    step = group.selector.query_block
    if step is None or (not len(group.far) and block.last + 1 - group.near_start <= window):
        return whole
    step = min(step, window)
    stop = block.count - (group.selector.last_alone and block.last + 1 >= block.length)
    found = [slice(i, min(i + step, stop)) for i in range(0, stop, step)]
    return found if stop == block.count else [*found, slice(stop, block.count)]


def piece(frame: Frame, rows: slice) -> Frame:
    """A frame of some rows of a text, as if they had been read by themselves."""
    block = frame.block
    alone = Block(
        block.start + rows.start, block.index[rows], None, block.length, block.offset,
        angles=block.angles, prompt=True,
    )  # fmt: skip
    return replace(
        frame, block=alone, raw_query=frame.raw_query[:, rows],
        near_query=frame.near_query[:, rows], far_query=frame.far_query[:, rows],
        near_key=frame.near_key[:, rows], value=frame.value[:, rows],
    )  # fmt: skip


def rows_together(group: Group, frame: Frame) -> list[slice]:
    """Queries that plan together: all of a text, each node of a tree by itself."""
    count = frame.block.count
    selector = group.selector
    if selector is None or not len(group.far) or not frame.selects(selector):
        return [slice(0, count)]
    if frame.block.ancestors is None and not frame.decoding:
        return [slice(0, count)]
    return [slice(i, i + 1) for i in range(count)]


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
