"""LM-Infinite: the first tokens and a local window, at distances that stop growing.

Han et al., "LM-Infinite: Zero-Shot Extreme Length Generalization for Large Language Models", NAACL
2024, arXiv:2308.16137.

Long texts fail for three reasons. Distances occur that were never seen. Too many tokens share one
softmax. And the first tokens, which receive much of the attention, are lost. A mask shaped like a
Lambda and a cap on distances solve all three, without tuning.

    i - j <  W:            logit R(i) q . R(j) k
    i - j >= W,  j < G:    logit R(min(i, Lmax)) q . k          the key not rotated at all
    otherwise:             not seen

Both parts share one softmax. Only G + W tokens are kept, so memory and time per token are constant.
Ours differs from the authors' code in the cap. There all queries of a call share min(Lmax, n - 1).
Here each query has its own, so that text may be read in pieces of any size.

Middle tokens can be seen again, for retrieval. It applies in layers from `top_k_from` on, to a
token being decoded and to the last token of a prompt. Each of their query heads also sees the
`top_k` middle tokens with

    the largest logits R(D) q . k,  G <= j <= i - W      all of them at the one distance D

This is off by default, as in the authors' code, whose commands for retrieval ask for 5 tokens. D
2048 and layer 4 are that code's defaults. 2048 is half of what its models were trained for. With
`top_k` everything is kept, in all layers, and decoding is not what a prefill of the same text
gives. A token becomes a candidate up to 63 tokens after it has left the window, because entries
leave it together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys, Selector
from lengthwise.methods.base import Method, Needs, Paper, Question, needs_rope, option
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

TOP_K = Needs("top_k=1 or more", lambda method: method.top_k)


@dataclass(frozen=True)
class LMInfinite(Method):
    """sinks: G. window: W, wisely at most the trained length. cap: Lmax, None for the trained
    length. top_k_at: D."""

    name: ClassVar[str] = "lm_infinite"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[Paper] = Paper(
        "LM-Infinite: Zero-Shot Extreme Length Generalization for Large Language Models",
        "Han et al.",
        2024,
        arxiv="2308.16137",
        venue="NAACL",
        code="https://github.com/Glaciohound/LM-Infinite",
    )
    sinks: int = option(10, "first tokens that are always seen", low=0)
    window: int = option(2048, "most recent tokens that are seen", low=1)
    cap: int | None = option(
        None, "largest distance to the first tokens (none: trained length)", low=1
    )
    top_k: int = option(
        0, "middle tokens re-admitted by each head while decoding (0: none; the authors' 5)", low=0
    )
    top_k_at: int = option(
        2048, "distance they are put at (half of Llama 2's trained length)", low=1, needs=TOP_K
    )
    top_k_from: int = option(4, "first layer that re-admits them", low=0, needs=TOP_K)

    @classmethod
    def identity(cls, length: int) -> LMInfinite:
        return cls(window=max(1, length))

    def check(self, model: AdaptedModel) -> None:
        needs_rope(self, model)

    def placement(self, model: AdaptedModel) -> Placement:
        sinks, cap = self.sinks, self.cap or model.trained_length

        def first(index: Tensor) -> Tensor:
            return index < sinks

        def far_query(index: Tensor) -> Tensor:
            return index.clamp_max(cap)

        return Placement(
            window=self.window,
            keeps_far=sinks > 0 or self.top_k > 0,
            keep_far=None if self.top_k else first,
            reads_far=first if self.top_k else None,
            far_key=torch.zeros_like,
            far_query=far_query,
            far_raw=self.top_k > 0,
        )

    def start_selector(self, layer: LayerFacts) -> Selector | None:
        return _Readmission(self, layer.index >= self.top_k_from) if self.top_k else None


class _Readmission:
    """Which far keys a query sees. admits: False in the first layers, which see only the sinks."""

    last_alone = True
    wants_attention_mass = 0

    def __init__(self, method: LMInfinite, admits: bool) -> None:
        self.method, self.admits = method, admits
        self.query_block: int | None = method.window

    def extend(self, entries: KVEntries, far: KVStore) -> None:
        return None

    def tokens_until_change(self, length: int, boundary: int) -> int | None:
        return None

    def tensors(self) -> list[Tensor | None]:
        return []

    def plan(self, queries: Queries, far: KVStore) -> SelectedKeys:
        method, count = self.method, len(far)
        sinks = torch.arange(min(method.sinks, count), device=queries.index.device)
        alone = len(queries.index) == 1 and (queries.decoding or queries.ends)
        if not (self.admits and alone and count >= method.sinks + method.top_k):
            return SelectedKeys(sinks)
        return self._readmit(queries, far, sinks)

    def _readmit(self, queries: Queries, far: KVStore, sinks: Tensor) -> SelectedKeys:
        """The sinks where they stand, and the best middle keys of each head at one distance."""
        method = self.method
        assert queries.rotate is not None and queries.far_at is not None
        distance = torch.full_like(queries.index, method.top_k_at)
        blocks = [block.key for block in far.blocks()]
        key = (blocks[0] if len(blocks) == 1 else torch.cat(blocks, 1))[:, len(sinks) :]
        query = queries.rotate(queries.raw, distance)
        grouped = query.reshape(key.shape[0], -1, query.shape[-1])
        scores = torch.matmul(grouped, key.transpose(1, 2)).reshape(len(query), -1)
        best = scores.topk(method.top_k, -1).indices.sort(-1).values + len(sinks)
        ids = torch.cat([sinks.expand(len(query), -1), best], 1)
        # Only differences count: everything is moved up where D is more than the query's own place.
        shift = (distance - queries.far_at).clamp_min(0)
        middle = (queries.far_at - distance + shift).expand(method.top_k)
        return SelectedKeys(ids, None, torch.cat([shift.expand(len(sinks)), middle]),
                      queries.far_at + shift)  # fmt: skip


__all__ = ["LMInfinite"]
