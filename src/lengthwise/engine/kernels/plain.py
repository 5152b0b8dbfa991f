"""Attention with its scores in sight: the plain twin of every kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lengthwise.engine.kernels.part import Answer, Asked, Part, Tempered, lower, repeat_heads


def plain(asked: Asked) -> Answer:
    """All scores of all parts in one float32 softmax."""
    scores = torch.cat([logits(part, asked.scaling, asked.softcap) for part in asked.parts], -1)
    return _softmax(scores, asked.parts, asked.sinks)


def plain_tempered(
    parts: Sequence[Part | Tempered],
    scaling: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Answer:
    """`plain` where some parts have a temperature: each of their keys has the logit
    z / T + (lse_scale - 1) LSE, in the one softmax."""
    scores, flat = [], []
    for part in parts:
        if isinstance(part, Part):
            scores.append(logits(part, scaling, softcap))
            flat.append(part)
            continue
        inner = [each if isinstance(each, Part) else each.part() for each in part.parts]
        own = torch.cat([logits(each, scaling / part.temperature, softcap) for each in inner], -1)
        scores.append(own + (part.lse_scale - 1) * torch.logsumexp(own, -1, keepdim=True))
        flat += inner
    return _softmax(torch.cat(scores, -1), flat, sinks)


def _softmax(scores: Tensor, parts: Sequence[Part], sinks: Tensor | None) -> Answer:
    """Scores `[heads, queries, keys of all parts]` and the values of the parts."""
    heads = scores.shape[0]
    values = torch.cat([repeat_heads(part.value, heads).float() for part in parts], 1)
    lse = torch.logsumexp(scores, -1)
    if sinks is not None:
        lse = torch.logaddexp(lse, sinks.float()[:, None])
    weights = torch.exp(scores - lse[..., None]).nan_to_num(0.0)
    return torch.matmul(weights, values).to(parts[0].value.dtype), lse


def logits(part: Part, scaling: float, softcap: float | None = None) -> Tensor:
    """Masked logits of a part, float32 `[heads, queries, keys]`; invisible ones are -inf."""
    heads, queries, head_dim = part.query.shape
    key_heads, keys, _ = part.key.shape
    # The heads of a group are so many more rows of one key head: no key is copied.
    rows = part.query.reshape(key_heads, heads // key_heads * queries, head_dim)
    scores = torch.matmul(rows, part.key.mT).view(heads, queries, keys).float() * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if part.log_weight is not None:
        scores = scores + repeat_heads(part.log_weight, heads)[:, None]
    mask = lower(part) if part.causal else part.mask
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores


__all__ = ["logits", "lower", "plain", "plain_tempered"]
