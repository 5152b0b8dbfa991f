"""Partial results over several parts, joined by their log-sum-exp (LSE).

Of parts p with outputs o_p the softmax over all of them is

    o = sum_p exp(lse_p - lse) o_p,   lse = log sum_p exp(lse_p)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

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
    return joined([one(part, asked.scaling, asked.softcap, True) for part in parts], asked)


def joined(results: Sequence[Answer], asked: Asked) -> Answer:
    """Partial outputs of what was asked, with its sinks; the LSE where it is wanted."""
    if asked.sinks is None and not asked.need_lse:
        return _mix(results), None
    return merge(results, asked.sinks)


def square(part: Part) -> list[Part]:
    """A causal part as the keys that every query sees and a square causal rest, for the kernels
    that know no other."""
    before = part.key.shape[1] - part.query.shape[1]
    if not part.causal or not before:
        return [part]
    own = replace(part.keys(slice(before, None)), causal=True)
    return [part.keys(slice(before)), own]


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


__all__ = ["joined", "merge", "part_by_part", "square"]
