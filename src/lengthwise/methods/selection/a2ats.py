"""A2ATS: logits are estimated from codes of un-rotated keys, and the best tokens are read exactly.

He et al., "A^2ATS: Retrieval-Based KV Cache Reduction via Windowed Rotary Position Embedding and
Query-Aware Vector Quantization", ACL Findings 2025, arXiv:2502.12665.

Every far key is known by a code of a codebook that was made once for the model, of keys before
rotation. A query at one fixed position is multiplied by the codebook, so that a logit is looked up
for each key. The true keys and values of the best are then read at their ordinary positions.

    WRoPE    logit ~ R(w) q~ . k~,  w = 2048 for every far key
    H        = sum of (R(w) q~)(R(w) q~)^T over queries of the group, by its RMS;  H + eps I = L L^T
    code     s = argmin_c |k~ L - c|,  c from k-means of k~ L
    estimate = R(w) q~ . (c_s L^-1)
    read     the `share` of the text with the largest estimates, per query head, all that the heads
             of a group choose together, first tokens and window

The metric L makes errors count by what queries make of them. A prompt is read in full.

Defaults are those of the released code: share 0.03, 4,096 codes, w 2048, 8 first tokens, window 64.

Differences: keys of one code have one estimate, so they are taken together: codes are, best first,
until the share is reached. The authors take exactly the share, any of equal ones. Codebooks are of
8,192 tokens, a fifth of them random, where the authors read 80,000.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.selection.codebooks import Codebook, codebooks
from lengthwise.methods.selection.reading import by_key_head
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts


@dataclass(frozen=True)
class A2ATS(Method):
    """Vector-quantised scores; a key head reads what any of its query heads chooses."""

    name: ClassVar[str] = "a2ats"
    question: ClassVar[Question] = Question.SELECTION
    paper: ClassVar[Paper] = Paper(
        "A^2ATS: Retrieval-Based KV Cache Reduction via Windowed Rotary Position Embedding and "
        "Query-Aware Vector Quantization",
        "He et al.",
        2025,
        arxiv="2502.12665",
        venue="ACL Findings",
        code="https://github.com/junhuihe-hjh/A2ATS",
    )
    decoding_exact: ClassVar[bool] = False

    share: float = option(
        0.03, "of the text that a query head chooses, beside sinks and window; 1: all", 0, 1
    )
    codes: int = option(4096, "codes of a key head; `lengthwise calibrate a2ats` makes them", low=2)
    sinks: int = option(8, "first tokens, always read", low=0)
    window: int = option(64, "newest tokens, always read", low=1)
    position: int = option(
        2048, "at which queries are scored (WRoPE): `calibrate a2ats --position`", low=0
    )

    @classmethod
    def example(cls) -> A2ATS:
        return cls(share=0.2, codes=16, sinks=2, window=8, position=32)

    @classmethod
    def identity(cls, length: int) -> A2ATS:
        return cls(share=1.0)

    def check(self, model: AdaptedModel) -> None:
        self.selectors(model)

    def placement(self, model: AdaptedModel) -> Placement:
        return Placement(window=self.window, anchored=True)

    def selectors(self, model: AdaptedModel) -> Callable[[LayerFacts], Selector | None]:
        if self.share == 1:
            return self.start_selector
        return partial(self._start, codebooks(model, self.codes, self.position))

    def start_selector(self, layer: LayerFacts) -> Selector | None:
        """Everything is read; what chooses needs the codebooks of a model, see `selectors`."""
        return None

    def _start(self, books: dict[int, Codebook], layer: LayerFacts) -> Selector | None:
        return CodedKeys(self, books[layer.index])


class CodedKeys:
    """The codes of one layer's far keys.

    codes: int32 `[kv_heads, n]`, those of head h from h * codes on. sizes: far keys of each code,
    first tokens left out, int64 `[kv_heads, codes]`.
    """

    query_block: int | None = None
    last_alone = False
    wants_attention_mass = 0

    def __init__(self, method: A2ATS, book: Codebook) -> None:
        self.method = method
        self.book = book
        heads, count = book.keys.shape[:2]
        device = book.keys.device
        self.codes = torch.empty(heads, 0, dtype=torch.int32, device=device)
        self.sizes = torch.zeros(heads, count, dtype=torch.int64, device=device)
        self.first = torch.arange(heads, device=device)[:, None] * count
        # On the host, where it can be looked at without waiting for a device.
        self.place = torch.tensor([method.position])

    def __deepcopy__(self, memo: dict[int, Any]) -> CodedKeys:
        # The codebook is the model's, and codes are replaced when more come: forks hold the same.
        new = copy.copy(self)
        new.sizes = self.sizes.clone()
        return new

    def extend_raw(self, key: Tensor) -> None:
        """Finds the codes of un-rotated keys `[kv_heads, n, head_dim]`."""
        found = self.book.encode(key)
        chosen = found[:, max(0, self.method.sinks - self.codes.shape[1]) :]
        self.sizes.scatter_add_(1, chosen, torch.ones_like(chosen))
        self.codes = torch.cat([self.codes, (found + self.first).int()], 1)

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        """Keys were coded before they were rotated."""

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        """Every query plans for itself."""
        return None

    def tensors(self) -> list[Tensor | None]:
        """What a sequence holds; the codebook is the model's."""
        return [self.codes, self.sizes]

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys | None:
        method, count = self.method, self.codes.shape[1]
        wanted, coded = int(method.share * (queries.span[1] + 1)), count - method.sinks
        if wanted >= coded or queries.rotate is None:
            return None
        query = queries.rotate(queries.raw[:, -1:], self.place)
        best = best_codes(self.estimates(query), self.sizes, wanted, coded)
        kept = best.any(1).flatten().index_select(0, self.codes.flatten()).view(-1, count)
        kept[:, : method.sinks] = True
        return union_of(kept, len(query))

    def estimates(self, query: Tensor) -> Tensor:
        """Logits that codes stand for, unscaled: query `[heads, 1, head_dim]` -> float32
        `[kv_heads, group, codes]`."""
        grouped = by_key_head(query, len(self.book.keys)).float()
        return torch.bmm(grouped, self.book.keys.mT)


def best_codes(estimates: Tensor, sizes: Tensor, wanted: int, total: int) -> Tensor:
    """The codes with the largest estimates, until they have as many keys as are wanted.

    Args:
        estimates: float32 `[kv_heads, group, codes]`.
        sizes: keys of each code, int64 `[kv_heads, codes]`.
        wanted: keys.
        total: keys of all codes of a head.

    Returns:
        Bool `[kv_heads, group, codes]`.
    """
    codes = sizes.shape[1]
    # Four times as many codes as an even share of them has nearly always keys enough.
    few = min(codes, max(8, math.ceil(4 * codes * wanted / total)))
    for count in dict.fromkeys((few, codes)):
        order = estimates.topk(count, -1).indices
        held = sizes[:, None].expand_as(estimates).gather(2, order)
        before = held.cumsum(-1) - held
        if count == codes or bool((before[..., -1] + held[..., -1] >= wanted).all()):
            break
    found = torch.zeros_like(estimates, dtype=torch.bool)
    return found.scatter_(2, order, before < wanted)


def union_of(kept: Tensor, heads: int) -> SelectedKeys:
    """Keys as they are read. Key heads with fewer than others get some that nobody sees.

    Args:
        kept: bool `[kv_heads, n]`.
        heads: query heads.
    """
    held = kept.sum(1)
    width = int(held.max())
    # The first `width` keys of a head have as many to spare as it lacks, or more.
    spare = ~kept[:, :width]
    filled = kept.clone()
    filled[:, :width] |= spare & (spare.cumsum(1) <= (width - held)[:, None])
    ids = filled.nonzero()[:, 1].view(len(kept), width)
    mask = kept.gather(1, ids).repeat_interleave(heads // len(kept), 0)
    return SelectedKeys(ids, mask[:, None])


__all__ = ["A2ATS", "CodedKeys", "best_codes", "union_of"]
