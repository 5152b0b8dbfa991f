"""Attention of a layer whose heads keep unequal numbers of entries, in groups.

One new token sees alike what a group holds plain: all of it, or first and latest entries. Then all
groups are attended to in one call where a kernel can (`kernels.ragged`). Else they take turns, each
in one softmax; what is stored or seen otherwise goes the general way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lengthwise.engine.attention.attend import joint_softmax
from lengthwise.engine.kernels import ragged
from lengthwise.engine.kernels.merge import merge
from lengthwise.engine.kernels.ragged import Piece
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.offload import OffloadedKVStore
from lengthwise.engine.kv_cache.placement import same
from lengthwise.engine.kv_cache.step_metadata import LayerInputs


def attend_groups(
    groups: Sequence[HeadGroup],
    inputs: LayerInputs,
    query_heads: Callable[[Tensor], Tensor],
    alone: Callable[[HeadGroup, LayerInputs], Tensor],
    watched: bool,
) -> Tensor:
    """Attention of the new tokens over what each group keeps, and over themselves.

    Args:
        groups: of one layer, several.
        inputs: the new tokens in this layer, of all its heads.
        query_heads: gives the query heads that read some key heads.
        alone: attention of one group.
        watched: whether somebody sums the probabilities that entries receive.

    Returns:
        `[heads, n, value_dim]`.
    """
    found = None if watched else _together(groups, inputs)
    if found is not None:
        return found
    query, value = inputs.raw_query, inputs.value
    out = torch.empty(*query.shape[:2], value.shape[-1], dtype=value.dtype, device=value.device)
    for group in groups:
        assert group.heads is not None
        rows = query_heads(group.heads)
        step = None if watched else _step(group, inputs, rows)
        if step is not None:
            out[rows] = step
            continue
        part = replace(
            inputs, placement=group.placement, raw_query=query[rows], heads=rows,
            near_query=inputs.near_query[rows], far_query=inputs.far_query[rows],
            near_key=inputs.near_key[group.heads], value=value[group.heads],
        )  # fmt: skip
        out[rows] = alone(group, part)
    return out


def _together(groups: Sequence[HeadGroup], inputs: LayerInputs) -> Tensor | None:
    """All groups in one call; None where that is not theirs to have, or fails."""
    every = range(len(inputs.near_key))
    pieces = [Piece(every, inputs.near_key.contiguous(), inputs.value.contiguous())]
    for group in groups:
        seen = seen_plainly(group, inputs)
        if seen is None:
            return None
        pieces += [Piece(group.head_numbers, x.key, x.value, x.log_weight) for x in seen]
    if not ragged.serves(inputs.near_query, pieces):
        return None
    layer = inputs.layer
    found = ragged.attend(inputs.near_query, pieces, layer.scaling, layer.softcap)
    if found is None:
        return None
    return found[0] if layer.sinks is None else merge([found], layer.sinks)[0]


def _step(group: HeadGroup, inputs: LayerInputs, rows: Tensor) -> Tensor | None:
    """One new token over all that a group holds, in one plain softmax; None where it is another.

    rows: the group's query heads. Returns `[query heads of the group, 1, value_dim]`.
    """
    layer, seen = inputs.layer, seen_plainly(group, inputs)
    if seen is None or layer.softcap is not None or layer.sinks is not None:
        return None
    if any(each.log_weight is not None for each in seen):
        return None
    assert group.heads is not None
    query = inputs.near_query[rows].reshape(len(group.heads), -1, layer.head_dim)
    parts = [(query, each.key, each.value) for each in seen]
    parts.append((query, inputs.near_key[group.heads], inputs.value[group.heads]))
    return joint_softmax(parts, layer.scaling).reshape(len(rows), 1, -1)


def seen_plainly(group: HeadGroup, inputs: LayerInputs) -> list[KVEntries] | None:
    """What a single new token sees of a group, as it is stored.

    Args:
        group: of the layer.
        inputs: the new tokens.

    Returns:
        None where there are several, or where the token does not see entries alike, as they lie.
    """
    placement, near = group.placement, group.near.tail
    if (
        inputs.metadata.count > 1
        or inputs.raw_near
        or placement.far_query is not same
        or placement.compact
        or group.selector is not None
        or not all(map(_plain, (group.near, group.far)))
    ):
        return None
    if near is not None and placement.window is not None and not placement.anchored:
        gone = inputs.start - placement.window + 1 - group.near_start
        if gone > 0 and placement.keeps_far and not group.none_leave(inputs.metadata, gone):
            return None
        near = near.slice(max(0, gone), len(near))
    return [each for each in (group.far.tail, near) if each is not None and len(each)]


def _plain(store: KVStore) -> bool:
    if store.closed or store.shared:
        return False
    return not isinstance(store, OffloadedKVStore)


__all__ = ["attend_groups", "seen_plainly"]
