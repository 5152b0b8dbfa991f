"""How much attention the entries of a cache get from the last queries of a prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.engine.attention.attend import Part, attend
from lengthwise.engine.attention.scores import column_sums
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.placement import same
from lengthwise.engine.kv_cache.retention import CacheUpdate, Phase
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.step_metadata import LayerInputs, StepMetadata


def received_attention(group: HeadGroup, update: CacheUpdate, window: int) -> Tensor:
    """Probability that each compressible entry of a group gets from the last queries of a prompt.

    Args:
        group: key heads of one layer.
        update: one that carries the last queries.
        window: how many of them count.

    Returns:
        float32 `[heads, entries]`, summed over the last `window` queries.
    """
    layer = update.layer
    parts = _parts(group, update, window)
    _, lse = attend(parts, layer.scaling, layer.softcap, layer.sinks, need_lse=True)
    assert lse is not None
    return column_sums(parts[0], lse, layer.scaling, layer.softcap)


def _parts(group: HeadGroup, update: CacheUpdate, window: int) -> list[Part]:
    """Compressible entries as the last queries see them, then near ones where those are others."""
    sequence = update.sequence
    assert update.queries is not None and update.query_index is not None
    # An update carries as many queries as the most demanding method of the recipe asked for.
    query, index = update.queries[:, -window:], update.query_index[-window:]
    length = max(sequence.expected_prompt, len(sequence))
    metadata = StepMetadata(int(index[0]), index, None, length, sequence.offset)
    rope = sequence.model.rope
    # Keys are stored as the layer turns them: by the plan's rule, or one of the model's own.
    own = None if rope is None else rope.own_rule(update.layer.rotary_type)
    inputs = LayerInputs(metadata, sequence.model, update.layer, sequence.frequency_rule or own,
                         group.placement, query, query, query, query, query)  # fmt: skip
    parts = [_near(group, inputs)]
    if group.placement.window is not None:
        parts.insert(0, _far(group, inputs))
    return parts


def _near(group: HeadGroup, inputs: LayerInputs) -> Part:
    placement = group.placement
    entries = group.near.read()
    assert entries is not None
    key = entries.key
    if inputs.raw_near or placement.compact:
        key = inputs.rotate_read(entries, placement.compact)
    born = entries.index[0].long()
    mask = born[None] <= inputs.index[:, None]
    if placement.window is not None and not placement.anchored:
        mask &= born[None] > inputs.index[:, None] - placement.window
    return Part(inputs.near_query, key, entries.value, mask, log_weight=entries.log_weight)


def _far(group: HeadGroup, inputs: LayerInputs) -> Part:
    placement, index = group.placement, inputs.index
    entries = group.far.read()
    assert entries is not None
    key, query = inputs.read_far(entries, placement), inputs.near_query
    if placement.far_raw:
        key = inputs.rotate_at(key, placement.far_key(entries.index[0].long()))
    layout, rope = inputs.layer.layout, inputs.model.rope
    if placement.far_query is not same and layout is not None and rope is not None:
        # The queries stand where near keys meet them: a pure rotation moves them on.
        delta = placement.far_query(index) - index - inputs.metadata.offset
        kind = inputs.layer.rotary_type
        angles = rope.angles(
            layout, kind, delta, inputs.rule, inputs.metadata.length, amplitude=False
        )
        query = layout.rotate(query, angles)
    return Part(query, key, entries.value, log_weight=entries.log_weight)


def newest_attention(sequence: Sequence, layer: int) -> Tensor:
    """Probability that each token of a sequence gets from its newest query, by mean over heads.

    Args:
        sequence: whose layers follow queries (`watching.follow_queries`).
        layer: whose queries are asked. It holds its entries in one group, near and plain.

    Returns:
        float32 `[tokens]`; 0 for what is no longer held.
    """
    held = sequence.layers[layer]
    (group,), queries = held.groups, held.last_queries()
    assert queries is not None
    index = torch.tensor([len(sequence) - 1], device=queries.device)
    update = CacheUpdate(Phase.DECODE, held.facts, sequence, queries[:, -1:], index)
    votes = received_attention(group, update, 1).mean(0)
    entries = group.compressible.read()
    assert entries is not None
    found = torch.zeros(len(sequence), device=votes.device)
    return found.index_add_(0, entries.index[0].long(), votes)
