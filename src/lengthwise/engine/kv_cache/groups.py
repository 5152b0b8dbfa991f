"""Attention of a layer whose heads keep unequal numbers of entries, in groups.

One new token sees all that a group without a window, or with an anchored one, holds plain. Then all
groups are attended to in one call where a kernel can (`kernels.ragged`). Else they take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lengthwise.engine.kernels import ragged
from lengthwise.engine.kernels.merge import merge
from lengthwise.engine.kernels.ragged import Piece
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
        part = replace(
            inputs, placement=group.placement, raw_query=query[rows], heads=rows,
            near_query=inputs.near_query[rows], far_query=inputs.far_query[rows],
            near_key=inputs.near_key[group.heads], value=value[group.heads],
        )  # fmt: skip
        out[rows] = alone(group, part)
    return out


def _together(groups: Sequence[HeadGroup], inputs: LayerInputs) -> Tensor | None:
    """All groups in one call; None where that is not theirs to have, or fails."""
    if inputs.metadata.count > 1 or inputs.raw_near or not all(map(_sees_all, groups)):
        return None
    every = range(len(inputs.near_key))
    pieces = [Piece(every, inputs.near_key.contiguous(), inputs.value.contiguous())]
    for group in groups:
        tails = (store.tail for store in (group.far, group.near))
        pieces += [
            Piece(group.head_numbers, tail.key, tail.value, tail.log_weight)
            for tail in tails
            if tail is not None and len(tail)
        ]
    if not ragged.serves(inputs.near_query, pieces):
        return None
    layer = inputs.layer
    found = ragged.attend(inputs.near_query, pieces, layer.scaling, layer.softcap)
    if found is None:
        return None
    return found[0] if layer.sinks is None else merge([found], layer.sinks)[0]


def _sees_all(group: HeadGroup) -> bool:
    """Whether one new token sees all that a group holds, as it is stored."""
    placement = group.placement
    return (
        (placement.window is None or placement.anchored)
        and placement.far_query is same
        and not placement.compact
        and group.selector is None
        and all(map(_plain, (group.near, group.far)))
    )


def _plain(store: KVStore) -> bool:
    if store.closed or store.shared:
        return False
    return not isinstance(store, OffloadedKVStore)


__all__ = ["attend_groups"]
