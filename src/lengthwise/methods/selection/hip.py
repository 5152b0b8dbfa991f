"""HiP Attention: a tree search finds the blocks of keys that a block of queries reads.

Lee et al., "HiP Attention: Sparse Sub-Quadratic Attention with Hierarchical Attention Pruning",
2024, arXiv:2406.09827.

The search looks at one representative per group of keys. In each of O(log n) rounds every group is
halved, and the better half of the halves stays. It needs no training and no index. It costs O(k log
n) a block of queries.

    M = k / block groups cover the far keys evenly; until groups are single blocks of keys:
        split every group into two halves
        score of a half = max over queries of the block (every `stride`-th) and over the keys of the
                          half's middle block of q . k
        keep the M best of the 2M halves
    read: first tokens, the M blocks, and the window; exact attention, ordinary positions

Masks are per query head. Decoding steps share one for `interval` steps. The first `dense` layers
read everything.

Defaults are those of the released code of the paper, version 1.1: k 512, blocks of 2 keys and 64
queries, every second query, window 256, 16 first tokens, middle blocks. The 3 dense layers and
masks of 8 steps are those of its commands. With `sample=first` a half is scored by its first block.
One that starts where its parent started keeps its parent's score, so a search costs half.

Differences: one stage, not the three of InfiniteHiP. A mask ends `interval` steps after the window
last moved, or after the mask before it. The authors count from the first step instead. What a draft
reads must not depend on how it was fed. So drafts stop where a new mask begins. Keys that do not
fill a block before the window are read in any case. The budget counts the window, its overhang and
the first tokens, so that 784 is a k of 450 to 512.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.offload import Offload, OffloadedKVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.methods.base import Budget, Method, Paper, Question, option
from lengthwise.methods.selection.reading import (
    check_budget,
    check_offload,
    check_window,
    chosen_tokens,
    far_keys,
    offload_option,
    reads_all,
)
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

SAMPLES = ("middle", "first")
# Of far keys that are off the device: how many move together, and how many such units stay when
# all of them are read. A search takes its keys one by one.
UNIT, UNITS = 64, 16


@dataclass(frozen=True)
class HiP(Method):
    """Tree search for keys, per query head and block of `query_block` queries (decoding: one)."""

    name: ClassVar[str] = "hip"
    question: ClassVar[Question] = Question.SELECTION
    paper: ClassVar[Paper] = Paper(
        "HiP Attention: Sparse Sub-Quadratic Attention with Hierarchical Attention Pruning",
        "Lee et al.",
        2024,
        arxiv="2406.09827",
        code="https://github.com/DeepAuto-AI/hip-attention",
    )
    best_known: ClassVar[str] = "hip(interval=1)"
    chunking_exact: ClassVar[bool] = False
    decoding_exact: ClassVar[bool] = False
    frozen_positions: ClassVar[bool] = True

    budget: Budget = option(
        Budget(784), "tokens a query reads in all, window and init included", bytes=False
    )
    window: int = option(256, "newest tokens, always read", low=1)
    init: int = option(16, "first tokens, always read", low=0)
    block: int = option(2, "keys that are scored and read together", low=1)
    query_block: int = option(
        64, "queries of a prefill that share a mask, at most window of them", low=1
    )
    stride: int = option(2, "every how many-th query of a block scores", low=1)
    dense: int = option(3, "first layers that read everything", low=0)
    sample: str = option(
        "middle", "block that stands for a half: the authors' middle, or first", None, None, SAMPLES
    )
    interval: int = option(
        8, "decoding steps that share a mask, until the window moves; 1: none share", low=1
    )
    offload: str = offload_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        always = self.window + self.init + self.block - 1
        check_budget(self.name, self.budget, always, self.block, self.window)

    @classmethod
    def example(cls) -> HiP:
        return cls(budget=Budget(24), window=8, init=4, block=2, query_block=8, dense=0)

    @classmethod
    def identity(cls, length: int) -> HiP:
        return cls(budget=Budget(length + 1024))

    def at_share(self, share: float, model: AdaptedModel, length: int) -> HiP:
        # Window and first tokens have at most the share of the budget that they have by default.
        tokens = max(1, round(share * length))
        window = max(1, min(self.window, tokens // 3))
        return replace(
            self, budget=Budget(tokens), window=window, init=min(self.init, tokens // 48),
            query_block=min(self.query_block, window),
        )  # fmt: skip

    def check(self, model: AdaptedModel) -> None:
        check_offload(self, self.offload, model)

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        beside = self.init + self.block - 1
        check_window(self.name, self.budget, beside, self.block, placement)

    def placement(self, model: AdaptedModel) -> Placement:
        away = Offload(self.offload, self.init, UNIT, UNITS)
        return Placement(
            window=self.window, anchored=True, offload=None if self.offload == "none" else away
        )

    def start_selector(self, layer: LayerFacts) -> Selector | None:
        return None if layer.index < self.dense else _Search(self)


@dataclass(frozen=True)
class _Mask:
    """Far ids `[heads, m]` that decoding steps share; None where they read everything."""

    ids: Tensor | None


class _Search:
    """held: far keys. mask: of the interval that decoding is in, from its first query on."""

    last_alone = False
    wants_attention_mass = 0

    def __init__(self, method: HiP) -> None:
        self.method = method
        self.query_block: int | None = method.query_block
        self.held = 0
        self.mask: _Mask | None = None
        self.until = 0

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        self.held += len(entries)
        self.mask = None

    def _end(self, index: int, boundary: int) -> int:
        """Birth id of the first query after `index` that needs a mask of its own."""
        left = self.method.interval - (index - boundary - self.method.window + 1) % (
            self.method.interval
        )
        return index + left

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        method = self.method
        whole = reads_all(method.budget, self.held, length - boundary, method.interval)
        if method.interval == 1 or whole:
            return None
        return self._end(length, boundary) - length

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        method, last = self.method, queries.span[1]
        if not queries.decoding or method.interval == 1:
            ids = self._search(queries, far, last)
        else:
            if self.mask is None or last >= self.until:
                self.until = self._end(last, queries.boundary)
                self.mask = _Mask(self._search(queries, far, self.until - 1))
            ids = self.mask.ids
        return None if ids is None else SelectedKeys(ids)

    def _search(self, queries: Queries, far: KVStore, last: int) -> Tensor | None:
        """Far ids `[heads, m]`, ascending, for queries up to the birth id last; None for all."""
        method, count = self.method, len(far)
        blocks = max(0, count - method.init) // method.block
        stop = method.init + blocks * method.block
        always = last + 1 - queries.boundary + method.init + max(0, count - stop)
        groups = chosen_tokens(method.budget, always, method.block, last) // method.block
        if blocks <= groups:
            return None
        keys: Tensor | _Away
        if isinstance(far, OffloadedKVStore):
            keys = _Away(far, method.init, (far.key_heads, blocks, method.block))
        else:
            keys = far_keys(far)[:, method.init : stop].unflatten(1, (-1, method.block))
        # Counted from the newest query, which the mask must serve whatever the block's length is.
        best = tree_search(queries.far.flip(1)[:, :: method.stride], keys, groups, method.sample)
        inside = torch.arange(method.block, device=best.device)
        chosen = (best[..., None] * method.block + inside).flatten(1) + method.init
        first = torch.arange(method.init, device=best.device).expand(len(chosen), -1)
        rest = torch.arange(stop, count, device=best.device).expand(len(chosen), -1)
        return torch.cat([first, chosen, rest], 1)

    def tensors(self) -> list[Tensor | None]:
        return [None if self.mask is None else self.mask.ids]


@dataclass(frozen=True)
class _Away:
    """Blocks of keys off the device. shape: key heads, blocks, keys of a block."""

    far: OffloadedKVStore
    init: int
    shape: tuple[int, int, int]

    def pick(self, blocks: Tensor) -> Tensor:
        """Keys `[kv_heads, m, block, head_dim]` of the blocks `[kv_heads, m]`."""
        size = self.shape[2]
        inside = torch.arange(size, device=blocks.device)
        ids = (blocks[..., None] * size + inside).flatten(1) + self.init
        found: Tensor = self.far.take_keys(ids).unflatten(1, (-1, size))
        return found


def tree_search(query: Tensor, keys: Tensor | _Away, groups: int, sample: str = "middle") -> Tensor:
    """The `groups` blocks of keys that a halving search finds for every query head.

    query: `[heads, queries, head_dim]`; keys: `[kv_heads, blocks, block, head_dim]`, more blocks
    than groups. sample: one of SAMPLES. Returns block numbers int64 `[heads, groups]`, ascending.
    """
    heads, blocks = query.shape[0], keys.shape[1]
    edges = torch.arange(groups + 1, device=query.device) * blocks // groups
    start, stop = (edge.expand(heads, -1) for edge in (edges[:-1], edges[1:]))
    score = block_scores(query, keys, start) if sample == "first" else None
    for _ in range(rounds(blocks, groups)):
        middle = (start + stop + 1) // 2
        # A single block has an empty second half, which must not win.
        empty = middle >= stop
        if score is None:
            left = block_scores(query, keys, (start + middle) // 2)
            right = block_scores(query, keys, ((middle + stop) // 2).clamp_max(blocks - 1))
        else:
            left, right = score, block_scores(query, keys, middle.clamp_max(blocks - 1))
        starts, stops = torch.cat([start, middle], 1), torch.cat([middle, stop], 1)
        halves = torch.cat([left, right.masked_fill(empty, -torch.inf)], 1)
        best, kept = halves.topk(groups, -1)
        score = None if score is None else best
        start, stop = starts.gather(1, kept), stops.gather(1, kept)
    return start.sort(-1).values


def rounds(blocks: int, groups: int) -> int:
    """Halvings until the largest of `groups` even groups is a single block."""
    return (-(-blocks // groups) - 1).bit_length()


def block_scores(query: Tensor, keys: Tensor | _Away, blocks: Tensor) -> Tensor:
    """Largest product of any query with any key of a block: float32 `[heads, m]`.

    query: `[heads, queries, head_dim]`; keys: `[kv_heads, all blocks, block, head_dim]`; blocks:
    `[heads, m]`.
    """
    heads, count = blocks.shape
    kv_heads, _, size = keys.shape[:3]
    owned = blocks.reshape(kv_heads, -1)
    if isinstance(keys, _Away):
        found = keys.pick(owned)
    else:
        found = keys[torch.arange(kv_heads, device=blocks.device)[:, None], owned]
    found = found.reshape(heads, count * size, -1)
    products = torch.matmul(found, query.transpose(1, 2))
    return products.reshape(heads, count, -1).amax(-1).float()


__all__ = ["HiP", "block_scores", "rounds", "tree_search"]
