"""How much attention entries get from the queries of one forward, for whoever adds it up."""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.engine.attention.scores import column_sums
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.new_parts import near_part, new_part
from lengthwise.engine.kv_cache.step_metadata import LayerInputs


def attention_mass(
    group: HeadGroup, inputs: LayerInputs, lse: Tensor, ids: Tensor | None, stride: int, new: bool
) -> Tensor:
    """Probability that near entries, then new ones, received from committed queries.

    Args:
        group: whose near entries were read.
        inputs: the forward's, of one layer.
        lse: `[heads, queries observed]`, of the whole softmax of each query.
        ids: int64, the accepted nodes where the new tokens are a tree; None is all of a chain.
        stride: every how many-th query was observed, standing for those between.
        new: whether the new entries have parts of their own, and columns here.

    Returns:
        float32 `[kv_heads, near entries (+ new ones)]`, summed over queries and over the query
        heads of a group.
    """
    layer, count = inputs.layer, inputs.metadata.count
    rows = slice(0, count, stride) if ids is None else ids
    if ids is not None:
        lse = lse[:, ids]
    parts = [near_part(group, inputs, rows)]
    if new:
        parts.append(new_part(inputs, rows, ids))
    sums = [
        column_sums(part, lse, layer.scaling, layer.softcap) for part in parts if part is not None
    ]
    each = inputs.near_query.shape[0] // inputs.near_key.shape[0]
    total: Tensor = torch.cat(sums, 1).unflatten(0, (-1, each)).sum(1)
    if stride > 1:
        total *= count / inputs.near_query[:, rows].shape[1]
    return total
