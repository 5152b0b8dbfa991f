"""Plain causal attention of one un-cached pass: what the hook is verified with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lengthwise.models.adapted_model import AdaptedModel, LayerAttention
from lengthwise.models.layer_facts import LayerFacts


def plain_attention(adapted: AdaptedModel, positions: Tensor) -> LayerAttention:
    """Full causal attention, windows honoured, over tokens at positions `[n]` (one row, no
    past)."""

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts = adapted.layers[layer]
        if facts.layout is not None and adapted.rope is not None:
            angles = adapted.rope.angles(facts.layout, facts.rotary_type, positions)
            query, key = (facts.layout.rotate(x, angles) for x in (query, key))
        order = torch.arange(len(positions), device=query.device)
        distance = order[:, None] - order[None]
        mask = distance >= 0
        if facts.window is not None:
            mask &= distance < facts.window
        return _softmax(query, key, value, mask, facts)

    return attention


def _softmax(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, facts: LayerFacts) -> Tensor:
    """Attention in float32 with every score in sight; mask bool `[n, n]`, True where visible."""
    groups = query.shape[0] // key.shape[0]
    key, value = (x.repeat_interleave(groups, 0) for x in (key, value))
    scores = torch.matmul(query, key.transpose(1, 2)).float() * facts.scaling
    if facts.softcap is not None:
        scores = torch.tanh(scores / facts.softcap) * facts.softcap
    scores = scores.masked_fill(~mask, -math.inf)
    lse = torch.logsumexp(scores, -1)
    if facts.sinks is not None:
        lse = torch.logaddexp(lse, facts.sinks.float()[:, None])
    weights = torch.exp(scores - lse[..., None]).nan_to_num(0.0)
    return torch.matmul(weights, value.float()).to(value.dtype)
