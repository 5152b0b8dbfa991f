"""What the queries of a step see of its new tokens and of near entries, as parts."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lengthwise.engine.kernels.part import AnyPart, Biased, DistanceBias, Part
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.step_metadata import LayerInputs, StepMetadata

# Rows of a text that are attended to at once under a window, unless it is longer.
LEAST_ROWS = 512


def pieces(group: HeadGroup, metadata: StepMetadata) -> list[slice]:
    """Rows of a text that are read one after another, because a selection plans for so many."""
    whole, window = [slice(0, metadata.count)], group.placement.window
    if group.selector is None or metadata.ancestors is not None or window is None:
        return whole
    step = group.selector.query_block
    if step is None or (not len(group.far) and metadata.last + 1 - group.near_start <= window):
        return whole
    step = min(step, window)
    stop = metadata.count - (group.selector.last_alone and metadata.last + 1 >= metadata.length)
    found = [slice(i, min(i + step, stop)) for i in range(0, stop, step)]
    return found if stop == metadata.count else [*found, slice(stop, metadata.count)]


def piece(inputs: LayerInputs, rows: slice) -> LayerInputs:
    """Inputs of some rows of a text, as if they had been read by themselves."""
    metadata = inputs.metadata
    alone = StepMetadata(
        metadata.start + rows.start, metadata.index[rows], None, metadata.length, metadata.offset,
        angles=metadata.angles, prompt=True, notes=metadata.notes,
    )  # fmt: skip
    return replace(
        inputs, metadata=alone, raw_query=inputs.raw_query[:, rows],
        near_query=inputs.near_query[:, rows], far_query=inputs.far_query[:, rows],
        near_key=inputs.near_key[:, rows], value=inputs.value[:, rows],
    )  # fmt: skip


def rows_together(group: HeadGroup, inputs: LayerInputs) -> list[slice]:
    """Queries that plan together: all of a text, each node of a tree by itself. Under a window a
    long text is cut, so that no query is multiplied by many keys that it does not see."""
    count = inputs.metadata.count
    selector, window = group.selector, group.placement.window
    if selector is None and window is not None and not group.placement.anchored:
        step = count if inputs.metadata.ancestors is not None else max(window, LEAST_ROWS)
        return [slice(i, min(i + step, count)) for i in range(0, count, step)]
    if selector is None or not len(group.far) or not inputs.selects(selector):
        return [slice(0, count)]
    if inputs.metadata.ancestors is None and not inputs.decoding:
        return [slice(0, count)]
    return [slice(i, i + 1) for i in range(count)]


def own_parts(
    group: HeadGroup, inputs: LayerInputs, rows: slice
) -> tuple[Part | None, Part | None]:
    """The new tokens before these rows, and the rows among themselves."""
    query = inputs.near_query[:, rows]
    key, value = inputs.near_key, inputs.value
    window = None if group.placement.anchored else group.placement.window
    ancestors = inputs.metadata.ancestors
    if ancestors is None and (window is None or inputs.metadata.count <= window):
        past = Part(query, key[:, : rows.start], value[:, : rows.start]) if rows.start else None
        return past, Part(query, key[:, rows], value[:, rows], causal=True)
    index = inputs.index
    # What the first of these rows does not see as near, none of them does.
    first = 0 if ancestors is not None or window is None else max(0, rows.start - window + 1)
    seen = slice(first, None if ancestors is not None else rows.stop)
    distance = index[rows, None] - index[None, seen]
    mask = distance >= 0 if ancestors is None else ancestors[rows]
    if window is None:
        return None, Part(query, key, value, mask)
    within, past = distance < window, None
    if reads_own_far(group):
        kept = _kept(group, inputs)
        if len(kept):
            within = within | torch.isin(index, index[kept])[None, seen]
            earlier = kept[: int((kept < first).sum())] if first else kept[:0]
            if len(earlier):
                past = Part(query, key[:, earlier], value[:, earlier])
    return past, Part(query, key[:, seen], value[:, seen], mask & within)


def most_together(group: HeadGroup) -> int | None:
    """Most tokens that a forward may bring to a group: those that do not see each other as far ones
    have to be near each other. None is any number.

    Args:
        group: of a layer.
    """
    where = group.placement
    return (
        where.window
        if where.keeps_far and not where.anchored and not reads_own_far(group)
        else None
    )


def reads_own_far(group: HeadGroup) -> bool:
    """Whether new tokens may see each other beyond the window: the few that it keeps for good, at
    the positions where they were born.

    Args:
        group: of a layer.
    """
    where = group.placement
    return (
        where.window is not None
        and where.keep_far is not None
        and where.far_is_ordinary
        and not where.anchored
        and group.selector is None
    )


def _kept(group: HeadGroup, inputs: LayerInputs) -> Tensor:
    """Which new tokens are kept beyond the window, int64; found once a forward."""
    keep, known = group.placement.keep_far, inputs.metadata.kept
    assert keep is not None
    name = (id(group.placement), -1, inputs.metadata.start)
    if name not in known:
        known[name] = keep(inputs.index).nonzero()[:, 0]
    return known[name]


def biased_parts(
    group: HeadGroup, inputs: LayerInputs, own: Part | None, bias: DistanceBias
) -> list[AnyPart]:
    """What all queries of a step see, with a bias of distance: every key is near and ordinary.

    Args:
        group: all heads of the layer.
        inputs: the new tokens in it.
        own: their own keys, where they are not among those of the group.
        bias: what is added to their logits.
    """
    found: list[AnyPart] = []
    entries = group.near.read()
    if entries is not None and len(entries):
        inputs.note_transient([entries] if group.near.closed else [])
        key = inputs.rotate_read(entries, compact=False) if inputs.raw_near else entries.key
        causal = inputs.staged and inputs.metadata.count > 1
        part = Part(inputs.near_query, key, entries.value, None, causal, entries.log_weight)
        found.append(Biased(part, inputs.index, entries.index[0].long(), bias))
    if own is not None:
        found.append(Biased(own, inputs.index, inputs.index, bias))
    return found


def near_part(group: HeadGroup, inputs: LayerInputs, rows: slice | Tensor) -> Part | None:
    """Near entries as the queries rows saw them, to sum their probabilities."""
    entries = group.near.read() if group.near.closed else group.near.tail
    if entries is None or not len(entries):
        return None
    mask, window = None, group.placement.window
    if window is not None and not group.placement.anchored:
        mask = entries.index[0][None].long() > (inputs.index[rows] - window)[:, None]
    key = entries.key
    if inputs.raw_near or group.placement.compact:
        key = inputs.rotate_read(entries, group.placement.compact)
    return Part(inputs.near_query[:, rows], key, entries.value, mask)


def new_part(inputs: LayerInputs, rows: slice | Tensor, ids: Tensor | None) -> Part:
    """The new tokens, or of a tree the accepted ones, as the queries rows saw them."""
    key, value, count = inputs.near_key, inputs.value, inputs.metadata.count
    mask = inputs.metadata.ancestors
    if mask is None:
        mask = torch.ones(count, count, dtype=torch.bool, device=key.device).tril()
    mask = mask[rows]
    if ids is not None:
        mask, key, value = mask[:, ids], key[:, ids], value[:, ids]
    return Part(inputs.near_query[:, rows], key, value, mask)
