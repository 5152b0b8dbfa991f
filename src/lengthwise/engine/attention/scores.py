"""Attention with its scores in sight: the plain twin of `attend`, and what is read off scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lengthwise.engine.attention.attend import attend
from lengthwise.engine.kernels.part import AnyPart, Part, Tempered
from lengthwise.engine.kernels.plain import logits, plain_tempered
from lengthwise.engine.kernels.products import SCORE_BLOCK


def attend_plain(
    parts: Sequence[Part | Tempered],
    scaling: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The twin of `attend`: all scores of all parts in one float32 softmax."""
    out, lse = plain_tempered(parts, scaling, softcap, sinks)
    assert lse is not None
    return out, lse


def column_sums(part: Part, lse: Tensor, scaling: float, softcap: float | None = None) -> Tensor:
    """Probability that each key receives, summed over the queries: float32 `[heads, keys]`.

    lse `[heads, queries]` is that of the whole softmax, so the sums are right when the part is one
    of several. Queries are taken in blocks: memory stays O(block x keys).
    """
    heads, queries, _ = part.query.shape
    total = torch.zeros(heads, part.key.shape[1], device=part.query.device)
    step = max(1, SCORE_BLOCK // max(1, heads * part.key.shape[1]))
    for start in range(0, queries, step):
        rows = slice(start, start + step)
        scores = logits(part.rows(rows), scaling, softcap)
        total += torch.exp(scores - lse[:, rows, None]).sum(1)
    return total


def column_maxima(
    parts: Sequence[Part],
    wanted: int,
    scaling: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """The largest probability that each key of one part receives from any query.

    The softmax is over the keys of all parts. Queries are taken in blocks: memory stays O(block x
    keys).

    Args:
        parts: of the same queries; none of them is empty.
        wanted: which part's keys are looked at.
        scaling: multiplies the logits.
        softcap: as in `attend`.
        sinks: as in `attend`.

    Returns:
        float32 `[heads, keys]`.
    """
    heads, queries, _ = parts[0].query.shape
    keys = sum(part.key.shape[1] for part in parts)
    step = max(1, SCORE_BLOCK // max(1, heads * keys))
    found = torch.zeros(heads, parts[wanted].key.shape[1], device=parts[0].query.device)
    for start in range(0, queries, step):
        rows = slice(start, min(queries, start + step))
        scores = [logits(part.rows(rows), scaling, softcap) for part in parts]
        lse = torch.logsumexp(torch.cat([z.logsumexp(-1, keepdim=True) for z in scores], -1), -1)
        if sinks is not None:
            lse = torch.logaddexp(lse, sinks.float()[:, None])
        found = torch.maximum(found, torch.exp(scores[wanted] - lse[..., None]).amax(1))
    return found


def head_sums(
    parts: Sequence[Part],
    scaling: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Probability that each query gives each key, summed over the heads.

    The softmax is over the keys of all parts. Queries are taken in blocks: beside what is returned,
    memory stays O(block x keys).

    Args:
        parts: of the same queries; none of them is empty.
        scaling: multiplies the logits.
        softcap: as in `attend`.
        sinks: as in `attend`.

    Returns:
        float32 `[queries, keys of all parts]`.
    """
    heads, queries, _ = parts[0].query.shape
    keys = sum(part.key.shape[1] for part in parts)
    step = max(1, SCORE_BLOCK // max(1, heads * keys))
    found = torch.zeros(queries, keys, device=parts[0].query.device)
    for start in range(0, queries, step):
        rows = slice(start, min(queries, start + step))
        scores = torch.cat([logits(part.rows(rows), scaling, softcap) for part in parts], -1)
        lse = torch.logsumexp(scores, -1)
        if sinks is not None:
            lse = torch.logaddexp(lse, sinks.float()[:, None])
        found[rows] = torch.exp(scores - lse[..., None]).sum(0)
    return found


def lse_at(
    parts: Sequence[AnyPart],
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
    picked = [part.rows(rows) for part in parts]
    lse = attend(picked, scaling, softcap, sinks, need_lse=True)[1]
    assert lse is not None
    return lse


__all__ = ["attend_plain", "column_maxima", "column_sums", "head_sums", "logits", "lse_at"]
