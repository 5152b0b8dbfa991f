"""Partial results over several parts, joined by their log-sum-exp (LSE).

Of parts p with outputs o_p the softmax over all of them is

    o = sum_p exp(lse_p - lse) o_p,   lse = log sum_p exp(lse_p)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lengthwise.engine.kernels.part import Answer, Asked, Part

# Attention over one part: the part, scaling, softcap, whether the LSE is needed.
OnePart = Callable[[Part, float, float | None, bool], Answer]


def part_by_part(one: OnePart, pieces: Callable[[Part], list[Part]], asked: Asked) -> Answer:
    """Each piece of each part by itself, then merged."""
    parts = [piece for part in asked.parts for piece in pieces(part)]
    if len(parts) == 1 and asked.sinks is None:
        return one(parts[0], asked.scaling, asked.softcap, asked.need_lse)
    results = [one(part, asked.scaling, asked.softcap, True) for part in parts]
    if asked.sinks is None and not asked.need_lse:
        return _mix(results), None
    return merge(results, asked.sinks)


def square(part: Part) -> list[Part]:
    """A causal part as the keys that every query sees and a square causal rest, for the kernels
    that know no other."""
    before = part.key.shape[1] - part.query.shape[1]
    if not part.causal or not before:
        return [part]
    weight = part.log_weight
    return [
        Part(part.query, part.key[:, :before], part.value[:, :before], None, False,
             None if weight is None else weight[:, :before]),
        Part(part.query, part.key[:, before:], part.value[:, before:], None, True,
             None if weight is None else weight[:, before:]),
    ]  # fmt: skip


def merge(results: Sequence[Answer], sinks: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Merges partial outputs `[heads, queries, value_dim]` by their LSE `[heads, queries]`."""
    lses = torch.stack([lse for _, lse in results if lse is not None])
    total = torch.logsumexp(lses, 0)
    if sinks is not None:
        total = torch.logaddexp(total, sinks.float()[:, None])
    return _weighted(results, torch.exp(lses - total).nan_to_num_(0.0)), total


def _mix(results: Sequence[Answer]) -> Tensor:
    """`merge` where nobody wants the LSE; every query sees a key of some part."""
    lses = torch.stack([lse for _, lse in results if lse is not None])
    return _weighted(results, torch.softmax(lses, 0))


def _weighted(results: Sequence[Answer], weights: Tensor) -> Tensor:
    """Sum of partial outputs by weights float32 `[parts, heads, queries]`."""
    weights = weights.unsqueeze(-1)
    out = results[0][0].float() * weights[0]
    for (partial, _), weight in zip(results[1:], weights[1:], strict=True):
        out.addcmul_(partial.float(), weight)
    return out.to(results[0][0].dtype)


__all__ = ["merge", "part_by_part", "square"]
