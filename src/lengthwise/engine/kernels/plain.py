"""Attention with its scores in sight: the plain twin of every kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lengthwise.engine.kernels.part import Answer, Asked, Part, repeat_heads


def plain(asked: Asked) -> Answer:
    """All scores of all parts in one float32 softmax."""
    parts, scaling = asked.parts, asked.scaling
    scores = torch.cat([logits(part, scaling, asked.softcap) for part in parts], -1)
    heads = scores.shape[0]
    values = torch.cat([repeat_heads(part.value, heads).float() for part in parts], 1)
    lse = torch.logsumexp(scores, -1)
    if asked.sinks is not None:
        lse = torch.logaddexp(lse, asked.sinks.float()[:, None])
    weights = torch.exp(scores - lse[..., None]).nan_to_num(0.0)
    return torch.matmul(weights, values).to(parts[0].value.dtype), lse


def logits(part: Part, scaling: float, softcap: float | None = None) -> Tensor:
    """Masked logits of a part, float32 `[heads, queries, keys]`; invisible ones are -inf."""
    heads = part.query.shape[0]
    key = repeat_heads(part.key, heads)
    scores = torch.matmul(part.query, key.transpose(1, 2)).float() * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if part.log_weight is not None:
        scores = scores + repeat_heads(part.log_weight, heads)[:, None]
    mask = lower(part) if part.causal else part.mask
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores


def lower(part: Part) -> Tensor:
    """The mask bool `[queries, keys]` that a causal part stands for."""
    queries, keys = part.query.shape[1], part.key.shape[1]
    ones = torch.ones(queries, keys, dtype=torch.bool, device=part.query.device)
    return ones.tril_(keys - queries)


__all__ = ["logits", "lower", "plain"]
