"""Attention with its scores in sight: the plain twin of `attend`, and what is read off scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lengthwise.engine.attention.attend import SCORE_BLOCK, Part, attend, repeat_heads


def attend_plain(
    parts: Sequence[Part],
    scaling: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The twin of `attend`: all scores of all parts in one float32 softmax."""
    scores = torch.cat([logits(part, scaling, softcap) for part in parts], -1)
    heads = scores.shape[0]
    values = torch.cat([repeat_heads(part.value, heads).float() for part in parts], 1)
    lse = torch.logsumexp(scores, -1)
    if sinks is not None:
        lse = torch.logaddexp(lse, sinks.float()[:, None])
    weights = torch.exp(scores - lse[..., None]).nan_to_num(0.0)
    return torch.matmul(weights, values).to(parts[0].value.dtype), lse


def logits(part: Part, scaling: float, softcap: float | None = None) -> Tensor:
    """Masked logits of a part, float32 `[heads, queries, keys]`; invisible ones are -inf."""
    heads, queries, _ = part.query.shape
    key = repeat_heads(part.key, heads)
    scores = torch.matmul(part.query, key.transpose(1, 2)).float() * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if part.log_weight is not None:
        scores = scores + repeat_heads(part.log_weight, heads)[:, None]
    mask = part.mask
    if part.causal:
        mask = _lower(part)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores


def column_sums(part: Part, lse: Tensor, scaling: float, softcap: float | None = None) -> Tensor:
    """Probability that each key receives, summed over the queries: float32 `[heads, keys]`.

    lse `[heads, queries]` is that of the whole softmax, so the sums are right when the part is one
    of several. Queries are taken in blocks: memory stays O(block x keys).
    """
    heads, queries, _ = part.query.shape
    total = torch.zeros(heads, part.key.shape[1], device=part.query.device)
    step = max(1, SCORE_BLOCK // max(1, heads * part.key.shape[1]))
    if part.causal:
        part = Part(part.query, part.key, part.value, _lower(part), False, part.log_weight)
    for start in range(0, queries, step):
        rows = slice(start, start + step)
        mask = None if part.mask is None else part.mask[..., rows, :]
        block = Part(part.query[:, rows], part.key, part.value, mask, False, part.log_weight)
        total += torch.exp(logits(block, scaling, softcap) - lse[:, rows, None]).sum(1)
    return total


def lse_at(
    parts: Sequence[Part],
    rows: slice,
    scaling: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """The LSE float32 `[heads, len(rows)]` of some of the queries."""
    query = parts[0].query[:, rows]
    if not query.shape[1]:
        # The kernels divide by the number of queries.
        return query.new_empty(query.shape[:2], dtype=torch.float32)
    picked = []
    for part in parts:
        mask = _lower(part) if part.causal else part.mask
        mask = None if mask is None else mask[..., rows, :]
        query = part.query[:, rows]
        picked.append(Part(query, part.key, part.value, mask, False, part.log_weight))
    lse = attend(picked, scaling, softcap, sinks, need_lse=True)[1]
    assert lse is not None
    return lse


def _lower(part: Part) -> Tensor:
    """The mask bool `[queries, keys]` that a causal part stands for."""
    queries, keys = part.query.shape[1], part.key.shape[1]
    ones = torch.ones(queries, keys, dtype=torch.bool, device=part.query.device)
    return ones.tril_(keys - queries)


__all__ = ["attend_plain", "column_sums", "logits", "lse_at"]
