"""Plain causal attention of one un-cached pass: what the seam is verified with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengthwise.engine.attention.attend import Part
from lengthwise.engine.attention.scores import attend_plain

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import Adapted, LayerAttention


def plain_attention(adapted: Adapted, positions: Tensor) -> LayerAttention:
    """Full causal attention, windows honoured, over tokens at positions `[n]` (one row, no
    past)."""

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts = adapted.layers[layer]
        if facts.pairing is not None and adapted.rope is not None:
            angles = adapted.rope.angles(facts.pairing, adapted.kind(facts), positions)
            query, key = (facts.pairing.rotate(x, angles) for x in (query, key))
        order = torch.arange(len(positions), device=positions.device)
        distance = order[:, None] - order[None]
        mask = distance >= 0
        if facts.window is not None:
            mask &= distance < facts.window
        part = Part(query, key, value, mask)
        return attend_plain([part], facts.scaling, facts.softcap, facts.sinks)[0]

    return attention
