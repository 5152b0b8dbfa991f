"""Patterns of a prompt's attention (MInference): which keys a head's blocks of queries read.

    vertical-slash   columns that all queries read, and distances at which each of them reads
    A-shape          the same with the first columns and the nearest distances, whatever the text
    block-sparse     for each block of queries the blocks of keys whose means match best

All are found at the grain of blocks: what one query of a block reads, all of it do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("vertical_slash", "a_shape", "block_sparse")


@dataclass(frozen=True)
class Pattern:
    """What a head reads of a prompt.

    kind: one of KINDS. columns, distances: how many, of vertical-slash and A-shape. blocks: how
    many blocks of keys, of block-sparse.
    """

    kind: str
    columns: int = 0
    distances: int = 0
    blocks: int = 0


@dataclass(frozen=True)
class Grid:
    """Where blocks of queries stand: the last n of m tokens, `size` queries a block.

    start: tokens before the first block. count: blocks. keys: tokens before the last block.
    """

    start: int
    count: int
    size: int

    @property
    def keys(self) -> int:
        return self.start + (self.count - 1) * self.size


@dataclass(frozen=True)
class Estimate:
    """How lines are estimated from the last queries of a forward, and what is read in any case.

    scaling, softcap: as in `LayerFacts`. last: queries that estimate. first, nearest: columns and
    distances that vertical-slash always reads.
    """

    scaling: float
    softcap: float | None = None
    last: int = 64
    first: int = 30
    nearest: int = 100

    def of(self, query: Tensor, key: Tensor) -> Tensor:
        """Probabilities `[heads, last, m]` of the last queries of `[heads, n, head_dim]` over one
        key head `[m, head_dim]`."""
        return probabilities(query[:, -self.last :], key, self.scaling, self.softcap)

    def lines(self, probs: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor]:
        """Columns and distances bool `[m]` of one head, whose probabilities are `[last, m]`."""
        columns = most(probs.sum(0), pattern.columns, self.first)
        if pattern.distances <= self.nearest:
            near = torch.arange(len(columns), device=columns.device) < self.nearest
            return columns, near
        return columns, most(distance_sums(probs), pattern.distances, self.nearest)


def chosen_keys(
    patterns: Seq[Pattern], query: Tensor, key: Tensor, grid: Grid, estimate: Estimate,
    probs: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """What blocks of queries read of one key head, by the pattern of each query head.

    Args:
        patterns: of the query heads that share the key head.
        query: theirs, `[heads, n, head_dim]`.
        key: `[m, head_dim]`.
        grid: where the blocks stand.
        estimate: how lines are estimated.
        probs: what `estimate.of` gave for all heads, where that is known already.

    Returns:
        bool `[heads, blocks, keys]`.
    """
    online = [head for head, each in enumerate(patterns) if each.kind == "vertical_slash"]
    if probs is not None:
        held = dict(enumerate(probs))
    else:
        held = dict(zip(online, estimate.of(query[online], key), strict=True)) if online else {}
    places = torch.arange(len(key), device=key.device)
    rows = []
    for head, each in enumerate(patterns):
        if each.kind == "block_sparse":
            rows.append(block_lines(query[head], key, each.blocks, grid))
            continue
        if each.kind == "vertical_slash":
            columns, distances = estimate.lines(held[head], each)
        else:
            columns, distances = places < each.columns, places < each.distances
        rows.append(lines(columns, distances, grid))
    return torch.stack(rows)


def probabilities(query: Tensor, key: Tensor, scaling: float, softcap: float | None) -> Tensor:
    """Of the last q tokens over all m: float32 `[heads, q, m]`, causal.

    query `[heads, q, head_dim]` and key `[m, head_dim]`, of one key head.
    """
    heads, count, _ = query.shape
    flat = (query.flatten(0, 1) @ key.T).float().mul_(scaling)
    scores: Tensor = flat.unflatten(0, (heads, count))
    if softcap is not None:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    later = torch.ones(count, count, dtype=torch.bool, device=key.device).triu_(1)
    scores[:, :, -count:].masked_fill_(later, -math.inf)
    return scores.softmax(-1)


def distance_sums(probs: Tensor) -> Tensor:
    """Sums of probabilities `[q, m]` of the last q queries by distance from the query: `[m]`."""
    count, keys = probs.shape
    wide = F.pad(probs, (count, 0))
    # Row i one place further to the left: a column of the view is a diagonal, farthest first.
    skewed = wide.as_strided((count, keys + 1), (keys + count + 1, 1))
    return skewed.sum(0)[1:].flip(0)


def most(sums: Tensor, count: int, always: int) -> Tensor:
    """bool `[m]`: the first `always` of sums `[m]`, and the largest of the others: `count` in all,
    or `always` where that is more."""
    sums = sums.clone()
    sums[:always] = math.inf
    found = torch.zeros(len(sums), dtype=torch.bool, device=sums.device)
    found[sums.topk(min(len(sums), max(count, always)), sorted=False).indices] = True
    return found


def lines(columns: Tensor, distances: Tensor, grid: Grid) -> Tensor:
    """bool `[blocks, keys]`: what blocks read, columns and distances bool `[m]` being read.

    A key is read by a block where any of its queries stands at such a distance.
    """
    size, keys = grid.size, grid.keys
    upto = F.pad(distances.cumsum(0), (1, size - 1))
    upto[len(distances) + 1 :] = upto[len(distances)]
    # By the distance of the block's first query, which is at least 1.
    reached = upto[size:] > upto[:-size]
    reached[0] = False
    # Block b sees key j at distance start + b size - j: its row is a piece of the reversed line.
    line = reached[: keys + 1].flip(0)
    line = F.pad(line, (0, (grid.count - 1) * size))[: keys + (grid.count - 1) * size]
    rows = line.unfold(0, keys, size).flip(0) if keys else line.new_zeros(grid.count, 0)
    return rows | columns[:keys]


def block_lines(query: Tensor, key: Tensor, count: int, grid: Grid) -> Tensor:
    """bool `[blocks, keys]`: the `count` blocks of keys whose mean matches that of queries best.

    query `[n, head_dim]` and key `[m, head_dim]`, of one head. The block itself is one of them.
    """
    size, keys = grid.size, grid.keys
    if not keys:
        return torch.zeros(grid.count, 0, dtype=torch.bool, device=key.device)
    asked, held = _means(query, size), _means(key[:keys], size)
    starts = torch.arange(grid.count, device=key.device) * size + grid.start
    ahead = torch.arange(len(held), device=key.device) * size >= starts[:, None]
    scores = (asked @ held.T).masked_fill_(ahead, -math.inf)
    best = scores.topk(min(max(1, count - 1), len(held)), sorted=False).indices
    found = torch.zeros_like(ahead).scatter_(1, best, True)
    return found.repeat_interleave(size, 1)[:, :keys]


def _means(x: Tensor, size: int) -> Tensor:
    """Means of blocks of `size` rows `[n, d]`, in float32: `[blocks, d]`."""
    short = -len(x) % size
    total: Tensor = F.pad(x, (0, 0, 0, short)).unflatten(0, (-1, size)).float().sum(1)
    total[-1] *= size / (size - short)
    return total / size


__all__ = [
    "KINDS", "Estimate", "Grid", "Pattern", "block_lines", "chosen_keys", "distance_sums", "lines",
    "most", "probabilities",
]  # fmt: skip
