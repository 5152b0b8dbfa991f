"""Attention for several sequences in one forward: each by itself, or together where they can.

Together go prompts that are read whole (`prompts_together`), and one new token of each where
nothing but plain entries is read.
Queries and keys of all rows are turned at once. Rows that hold the same shared blocks read these
once, as so many queries of one part, and their own entries each for itself; both are joined by
their log-sum-exp (as Hydragen and the fused kernel of BatchLLM do).
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from itertools import takewhile

import torch
from torch import Tensor

from lengthwise.engine.attention.attend import attend, merge
from lengthwise.engine.kernels.part import Part
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.prompts_together import PromptRows
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.models.adapted_model import LayerAttention
from lengthwise.models.rope import StepAngles


def attention_of(sequences: Seq[Sequence], steps: Seq[StepMetadata]) -> LayerAttention:
    """Attention of one forward for the model to call, layer by layer.

    Args:
        sequences: two or more, whose new tokens follow one another in it.
        steps: of these sequences.

    Returns:
        A function of the layer, and of the query, key and value of all new tokens, as
        `Sequence.attend` takes them for its own.
    """
    counts = [metadata.count for metadata in steps]
    writing = next((n for n, step in enumerate(steps) if not _one(step)), len(steps))
    angles = joint_angles(steps[:writing], [sequence.layers[0] for sequence in sequences])
    prompts = PromptRows.of(sequences, steps)

    def apart(layer: int, new: Seq[Tensor], first: int = 0) -> list[Tensor]:
        rows = zip(*(each.split(counts[first:], 1) for each in new), strict=True)
        return [
            sequence.attend(layer, q, k, v, metadata)
            for sequence, metadata, (q, k, v) in zip(
                sequences[first:], steps[first:], rows, strict=True
            )
        ]

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        new = query, key, value
        if prompts is not None:
            out = prompts.attend([sequence.layers[layer] for sequence in sequences], *new)
            if out is not None:
                return out
        if angles is not None:
            layers = [sequence.layers[layer] for sequence in sequences[:writing]]
            q, k, v = (each[:, :writing] for each in new)
            out = step_together(layers, q, k, v, steps[:writing], angles)
            if out is not None and writing == len(steps):
                return out
            if out is not None:
                rest = apart(layer, [each[:, writing:] for each in new], writing)
                return torch.cat([out, *rest], 1)
        return torch.cat(apart(layer, new), 1)

    return attention


def joint_angles(steps: Seq[StepMetadata], layers: Seq[LayerCache]) -> StepAngles | None:
    """Angles of the one token of every row, made together; None where a row is no such step.

    Args:
        steps: of the rows.
        layers: the first of each row.
    """
    if len(steps) < 2 or layers[0].model.rope is None:
        return None
    rope, first = layers[0].model.rope, steps[0]
    alike = all(_one(each) and each.offset == first.offset for each in steps)
    if not alike or rope.switch is not None or len(layers[0].model.devices) > 1:
        return None
    index = torch.cat([each.index for each in steps])
    return StepAngles(rope, index, None, first.offset, max(each.length for each in steps))


def _one(step: StepMetadata) -> bool:
    """Whether a row brings one token and no tree."""
    return step.count == 1 and step.ancestors is None


def step_together(
    layers: Seq[LayerCache], query: Tensor, key: Tensor, value: Tensor, steps: Seq[StepMetadata],
    angles: StepAngles,
) -> Tensor | None:  # fmt: skip
    """Attention of one layer for one new token of each row, which becomes an entry of its row.

    Args:
        layers: the layer of every row.
        query: un-rotated, `[heads, rows, head_dim]`.
        key: un-rotated, `[kv_heads, rows, head_dim]`.
        value: `[kv_heads, rows, value_dim]`.
        steps: of the rows.
        angles: as `joint_angles` gave them.

    Returns:
        `[heads, rows, value_dim]`; None where a row of this layer is no plain step.
    """
    first, facts = layers[0], layers[0].facts
    if facts.layout is None or not all(
        layer.rule is first.rule and layer.query_scale is None and layer.steps_plainly(1)
        for layer in layers
    ):
        return None
    turn = angles.at(facts.layout, facts.rotary_type, first.rule)
    query, key = facts.layout.rotate(query, turn), facts.layout.rotate(key, turn)
    tails = [
        layer.place(k, v, metadata)
        for layer, metadata, k, v in zip(
            layers, steps, key.split(1, 1), value.split(1, 1), strict=True
        )
    ]
    # A row's queries in one piece, the heads of a group as so many rows of their key head.
    rows = query.transpose(0, 1).reshape(len(layers), facts.num_kv_heads, -1, facts.head_dim)
    alone = rows.unbind(0)
    outs: list[Tensor] = [value] * len(layers)
    for members, common in sharing(layers):
        if len(members) > 1:
            found = _over_shared([layers[row] for row in members], query[:, members], common)
            for row, out in zip(members, found.unbind(1), strict=True):
                outs[row] = out
        else:
            (row,) = members
            outs[row] = layers[row].step_rotated(alone[row], tails[row])
    return torch.stack([out.reshape(facts.num_heads, -1) for out in outs], 1)


def sharing(layers: Seq[LayerCache]) -> list[tuple[list[int], int]]:
    """Rows by the shared blocks they begin with, and how many blocks those of a group have in
    common; a row that shares with nobody stands alone.

    Args:
        layers: one layer of every row.
    """
    by_first: dict[int, list[int]] = {}
    for row, layer in enumerate(layers):
        shared = layer.groups[0].near.shared
        by_first.setdefault(id(shared[0].key) if shared else -1 - row, []).append(row)
    found = []
    for rows in by_first.values():
        held = [layers[row].groups[0].near.shared for row in rows]
        alike = zip(*([block.key for block in blocks] for blocks in held), strict=False)
        common = sum(
            1 for _ in takewhile(lambda keys: all(each is keys[0] for each in keys), alike)
        )
        found.append((rows, common if len(rows) > 1 else 0))
    return found


def _over_shared(layers: Seq[LayerCache], query: Tensor, common: int) -> Tensor:
    """Rows that begin with the same `common` blocks, query `[heads, rows, head_dim]`."""
    scaling = layers[0].facts.scaling
    blocks = layers[0].groups[0].near.shared[:common]
    shared = attend([_part(query, block) for block in blocks], scaling, need_lse=True)
    outs, lses = [], []
    for row, layer in enumerate(layers):
        own = layer.groups[0].near.blocks()[common:]
        mine = query[:, row : row + 1]
        out, lse = attend([_part(mine, block) for block in own], scaling, need_lse=True)
        assert lse is not None
        outs.append(out)
        lses.append(lse)
    return merge([shared, (torch.cat(outs, 1), torch.cat(lses, 1))])[0]


def _part(query: Tensor, block: KVEntries) -> Part:
    return Part(query, block.key, block.value)


__all__ = ["attention_of", "joint_angles", "sharing", "step_together"]
