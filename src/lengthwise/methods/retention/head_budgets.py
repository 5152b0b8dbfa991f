"""A layer's budget, shared out among its heads by what their entries are worth.

Feng et al. 2025 (Ada-KV): the best entries of all heads of a layer stay, so a head whose attention
is spread gets more of them than one whose attention is gathered. A safeguard leaves no head
without.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch
from torch import Tensor

# How a safeguard works: the paper's, and that of kvpress.
SAFEGUARDS = ("mix", "floor")


def head_counts(scores: Tensor, count: int, alpha: float, safeguard: str) -> list[int]:
    """Entries that each head keeps; in all they are `count` times the heads.

    "mix" is the paper's: a head's share among the best of all heads, and an equal one, at 1 - alpha
    to alpha. "floor" is that of kvpress: each head's own best alpha * count stay first, at least
    one, and the rest go to the best of all heads.

    Args:
        scores: `[kv_heads, entries]`, comparable between heads.
        count: entries a head keeps on average.
        alpha: 0 leaves all to the scores, 1 gives all heads the same.
        safeguard: one of SAFEGUARDS.
    """
    heads, entries = scores.shape
    if safeguard == "floor" and alpha and count:
        own = scores.topk(max(1, int(count * alpha)), dim=1).indices
        scores = scores.scatter(1, own, torch.inf)
    best = scores.flatten().topk(heads * count).indices // max(1, entries)
    found = torch.bincount(best, minlength=heads).tolist()
    if safeguard == "floor":
        return [int(each) for each in found]
    return _whole([(1 - alpha) * each + alpha * count for each in found], heads * count)


def _whole(exact: Seq[float], total: int) -> list[int]:
    """Numbers that sum to a whole one, as whole ones: those cut most are rounded up."""
    # A hair above, because floats may just miss the whole number that they stand for.
    found = [int(each + 1e-6) for each in exact]
    order = sorted(range(len(exact)), key=lambda i: found[i] - exact[i])
    for i in order[: total - sum(found)]:
        found[i] += 1
    return found


def best_by_head(scores: Tensor, counts: Seq[int]) -> list[Tensor]:
    """The best entries of each head, as many as `counts` says: ids int64 `[n]` each, ascending."""
    return [
        mine.topk(count).indices.sort().values for mine, count in zip(scores, counts, strict=True)
    ]


__all__ = ["SAFEGUARDS", "best_by_head", "head_counts"]
