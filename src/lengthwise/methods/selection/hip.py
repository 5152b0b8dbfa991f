"""HiP Attention: Sparse Sub-Quadratic Attention with Hierarchical Attention Pruning (Lee et al.,
2024, arXiv 2406.09827).

The top-k keys of a block of queries are found by a tree search that looks at one representative per
group of keys: in each of O(log n) rounds every group is halved and the better half of the halves
stays. No training, no index: cost is O(k log n) a block of queries.

    M = k / block groups cover the far keys evenly; until groups are single blocks of keys:
        split every group into two halves
        score of a half = max over queries of the block (every `stride`-th) and over the keys of the
                          half's first block of q . k
        keep the M best of the 2M halves
    read: first tokens, the M blocks, and the window; exact attention, ordinary positions

Masks are per query head. A half that starts where its parent started keeps its parent's score, so a
round scores M blocks and a search scores M (rounds + 1). The first `dense` layers read everything.
Differences: one stage, not the three of InfiniteHiP; with `reuse` decoding steps share a mask until
the window next moves (a few dozen tokens), which a rejected draft cannot disturb, where the paper
counts steps; keys that do not fill a block before the window are read in any case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.entries import Entries, Segment
from lengthwise.engine.placement import Placement
from lengthwise.engine.roles import Choice, Queries, Selector
from lengthwise.methods.base import Budget, Method, Question, option
from lengthwise.methods.selection.reading import (
    check_budget,
    chosen_tokens,
    far_keys,
)
from lengthwise.models.adapt import Adapted
from lengthwise.models.probe import LayerFacts


@dataclass(frozen=True)
class HiP(Method):
    """Tree search for keys, per query head and block of `query_block` queries (decoding: one)."""

    name: ClassVar[str] = "hip"
    question: ClassVar[Question] = Question.SELECTION
    paper: ClassVar[str] = "HiP Attention (Lee et al., 2024)"
    chunking_exact: ClassVar[bool] = False
    decoding_exact: ClassVar[bool] = False
    frozen_positions: ClassVar[bool] = True

    budget: Budget = option(Budget(1024), "tokens a query reads in all, window and init included")
    window: int = option(256, "newest tokens, always read", low=1)
    init: int = option(64, "first tokens, always read", low=0)
    block: int = option(4, "keys that are scored and read together", low=1)
    query_block: int = option(64, "queries of a prefill that share a mask", low=1)
    stride: int = option(2, "every how many-th query of a block scores", low=1)
    dense: int = option(3, "first layers that read everything", low=0)
    reuse: bool = option(False, "decoding steps share a mask until the window moves")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_budget(self.name, self.budget, self.window + self.init, self.block)

    @classmethod
    def example(cls) -> HiP:
        return cls(budget=24, window=8, init=4, block=2, query_block=8, dense=0)

    @classmethod
    def identity(cls, length: int) -> HiP:
        return cls(budget=Budget(length + 1024))

    def placement(self, model: Adapted) -> Placement:
        return Placement(window=self.window, anchored=True)

    def start_selector(self, layer: LayerFacts) -> Selector | None:
        return None if layer.index < self.dense else _Search(self)


class _Search:
    """mask: far ids `[heads, m]` that decoding steps share until the window moves."""

    wants_stat = 0

    def __init__(self, method: HiP) -> None:
        self.method = method
        self.query_block: int | None = method.query_block
        self.mask: Tensor | None = None

    def extend(self, entries: Entries, far: Segment) -> None:
        self.mask = None

    def plan(self, queries: Queries, far: Segment) -> Choice | None:
        method, count = self.method, len(far)
        always = method.window + method.init
        groups = chosen_tokens(method.budget, always, method.block, queries.index) // method.block
        blocks = max(0, count - method.init) // method.block
        if blocks <= groups:
            return None
        if method.reuse and queries.decoding and self.mask is not None:
            return Choice(self.mask)
        stop = method.init + blocks * method.block
        keys = far_keys(far)[:, method.init : stop].unflatten(1, (-1, method.block))
        # Counted from the newest query, which the mask must serve whatever the block's length is.
        best = tree_search(queries.far.flip(1)[:, :: method.stride], keys, groups)
        inside = torch.arange(method.block, device=best.device)
        chosen = (best[..., None] * method.block + inside).flatten(1) + method.init
        first = torch.arange(method.init, device=best.device).expand(len(chosen), -1)
        rest = torch.arange(stop, count, device=best.device).expand(len(chosen), -1)
        ids = torch.cat([first, chosen, rest], 1)
        if method.reuse and queries.decoding:
            self.mask = ids
        return Choice(ids)

    def tensors(self) -> list[Tensor | None]:
        return [self.mask]


def tree_search(query: Tensor, keys: Tensor, groups: int) -> Tensor:
    """The `groups` blocks of keys that a halving search finds for every query head.

    query: `[heads, queries, head_dim]`; keys: `[kv_heads, blocks, block, head_dim]`, more blocks
    than groups. Returns block numbers int64 `[heads, groups]`, ascending.
    """
    heads, blocks = query.shape[0], keys.shape[1]
    edges = torch.arange(groups + 1, device=query.device) * blocks // groups
    start, stop = (edge.expand(heads, -1) for edge in (edges[:-1], edges[1:]))
    score = block_scores(query, keys, start)
    for _ in range(rounds(blocks, groups)):
        middle = (start + stop + 1) // 2
        # A single block has an empty second half, which must not win.
        right = block_scores(query, keys, middle.clamp_max(blocks - 1))
        right = right.masked_fill(middle >= stop, -torch.inf)
        starts, stops = torch.cat([start, middle], 1), torch.cat([middle, stop], 1)
        score, kept = torch.cat([score, right], 1).topk(groups, -1)
        start, stop = starts.gather(1, kept), stops.gather(1, kept)
    return start.sort(-1).values


def rounds(blocks: int, groups: int) -> int:
    """Halvings until the largest of `groups` even groups is a single block."""
    return (-(-blocks // groups) - 1).bit_length()


def block_scores(query: Tensor, keys: Tensor, blocks: Tensor) -> Tensor:
    """Largest product of any query with any key of a block: float32 `[heads, m]`.

    query: `[heads, queries, head_dim]`; keys: `[kv_heads, all blocks, block, head_dim]`; blocks:
    `[heads, m]`.
    """
    heads, count = blocks.shape
    kv_heads, _, size, head_dim = keys.shape
    owner = torch.arange(kv_heads, device=blocks.device)[:, None]
    found = keys[owner, blocks.reshape(kv_heads, -1)].reshape(heads, count * size, head_dim)
    products = torch.matmul(found, query.transpose(1, 2))
    return products.reshape(heads, count, -1).amax(-1).float()


__all__ = ["HiP", "block_scores", "rounds", "tree_search"]
