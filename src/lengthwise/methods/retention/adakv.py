"""Ada-KV: SnapKV whose heads share one budget, each taking what its attention needs.

Feng et al., "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM
Inference", NeurIPS 2025, arXiv:2407.11550.

What is lost by dropping entries is bounded by the attention that they received. That bound is
smallest where the best entries of all heads of a layer stay, however many of a head they are. With
v_h[j] what SnapKV's voters give entry j of key head h, H heads, and B entries a head on average
beside the voting window,

    B*_h = how many of the H B largest v are of head h
    B_h  = (1 - alpha) B*_h + alpha B       the safeguard: no head is left without
    kept = the last w tokens + the B_h best voted of the others, per key head

Heads that keep different numbers are stored in groups of their own (`engine/kv_cache/by_head`), so
the bytes are those of the budget.

kvpress has another safeguard, `safeguard=floor`: a head's own best alpha B stay first, and the rest
goes to the best of all heads. There entries that lose are masked, not dropped.

Ours, beside what is SnapKV's here (`snapkv.py`): whole numbers sum to the budget, where the authors
round each head's. `expected_attention(adaptive=true)` shares out a budget in the same way, by
another score.

Defaults are those of the released code: w = 32, max pooling over 7, 512 tokens, and the alpha = 0.2
of its LongBench scripts, which suggest it for grouped heads. (Its README's example has 0.5.)
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from lengthwise.engine.kv_cache.by_head import keep_by_head
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.retention import CacheUpdate
from lengthwise.methods.base import Budget, Needs, Paper, Question, option
from lengthwise.methods.retention.counting import floor_option, layer_tokens
from lengthwise.methods.retention.head_budgets import SAFEGUARDS, best_by_head, head_counts
from lengthwise.methods.retention.votes import PromptVotes, VotingMethod

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts


@dataclass(frozen=True)
class AdaKV(VotingMethod):
    """Keeps what the prompt's last queries attend to, more of it for heads that spread theirs."""

    name: ClassVar[str] = "adakv"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[Paper] = Paper(
        "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM "
        "Inference",
        "Feng et al.",
        2025,
        arxiv="2407.11550",
        venue="NeurIPS",
        code="https://github.com/FFY0/AdaKV",
    )
    best_known: ClassVar[str] = "adakv(window=8, kernel=31)"

    budget: Budget = option(Budget(512), "what each layer keeps of the prompt, a head on average")
    alpha: float = option(0.2, "share of it that all heads get alike", low=0.0, high=1.0)
    safeguard: str = option(
        "mix", "how they get it: mixed into the shares, or a floor (kvpress)", choices=SAFEGUARDS,
        needs=Needs("alpha above 0", lambda method: method.alpha),
    )  # fmt: skip
    window: int = option(32, "last prompt tokens that vote, and are always kept", low=1)
    kernel: int = option(7, "neighbours a vote is spread over; odd", low=1)
    pooling: str = option("max", "how it is spread", choices=("avg", "max"))
    floor: int = floor_option()

    @classmethod
    def example(cls) -> AdaKV:
        return cls(budget=Budget(50, "%"), window=8, floor=8)

    @classmethod
    def identity(cls, length: int) -> AdaKV:
        return cls(budget=Budget(length), window=min(32, length))

    def tokens(self, model: AdaptedModel, layer: LayerFacts, length: int, taken: int) -> int:
        return layer_tokens(self.budget, model, length, (taken or self.window) + self.floor)

    def start_retention(self, model: AdaptedModel) -> SharedVotes:
        return SharedVotes(self)


class SharedVotes(PromptVotes):
    """SnapKV's choice, of a budget that the heads of a layer share."""

    method: AdaKV

    def keep(
        self, group: HeadGroup, update: CacheUpdate, count: int, latest: int
    ) -> Seq[HeadGroup]:
        scores = self.votes(group, update, latest)
        method, older = self.method, scores.shape[1]
        counts = head_counts(scores, count - latest, method.alpha, method.safeguard)
        last = torch.arange(older, older + latest, device=scores.device)
        return keep_by_head(group, [torch.cat([ids, last]) for ids in best_by_head(scores, counts)])


__all__ = ["AdaKV", "SharedVotes"]
