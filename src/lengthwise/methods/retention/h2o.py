"""H2O: the tokens that received the most attention, and the most recent ones.

Zhang et al., "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language
Models", NeurIPS 2023, arXiv:2306.14048.

A few tokens receive most of the attention, and go on receiving it. Keep these heavy hitters and the
most recent tokens, and go on choosing while decoding. With p the softmax of the model,

    a[j] = sum over all queries i >= j and the query heads of a group of p[i, j]
    kept = the latest tokens + the largest a of the others, per key head

Ours: entries are dropped in runs of budget/64, not one a step. So memory is really freed, and
drafts have room. `normalise` divides a[j] by the queries that could see j, since plain sums favour
old tokens. The index and the sum of every entry are paid out of the budget. Every query's whole row
of probabilities is needed, so recipes that skip keys are refused. A share is never fewer tokens
than `floor`, where the authors cut a prompt of any length.

Defaults are those of the paper and of its released code: a fifth of the prompt, half of it the
latest tokens (heavy and recent ratio 0.1 each).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.retention import CacheUpdate, CacheView, Phase
from lengthwise.errors import Refused
from lengthwise.methods.base import Budget, Method, Paper, Question, option
from lengthwise.methods.retention.counting import (
    RUNS,
    affordable,
    floor_option,
    full_layers,
    layer_tokens,
    needs_full_layers,
)

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.placement import Placement
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts


@dataclass(frozen=True)
class H2O(Method):
    """Keeps the entries that have received the most attention, and the latest."""

    name: ClassVar[str] = "h2o"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[Paper] = Paper(
        "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
        "Zhang et al.",
        2023,
        arxiv="2306.14048",
        venue="NeurIPS",
        code="https://github.com/FMInference/H2O",
    )
    ordinary_only: ClassVar[bool] = True
    deletes_each_step: ClassVar[bool] = True
    best_known: ClassVar[str] = "h2o(normalise=true)"

    budget: Budget = option(Budget(20, "%"), "what each layer keeps, at all times")
    recent: float = option(0.5, "share of it that goes to the latest tokens", low=0.0, high=1.0)
    normalise: bool = option(False, "divide by the queries that could see an entry")
    floor: int = floor_option()

    @classmethod
    def example(cls) -> H2O:
        return cls(floor=8)

    @classmethod
    def identity(cls, length: int) -> H2O:
        return cls(budget=Budget(length))

    def check(self, model: AdaptedModel) -> None:
        needs_full_layers(self.name, model)

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        tokens = self.tokens(model, length)
        for layer in full_layers(model):
            self.capacity(model, layer, tokens)

    def tokens(self, model: AdaptedModel, length: int) -> int:
        """Plain tokens whose bytes a layer may hold once a prompt of `length` tokens was read."""
        return layer_tokens(self.budget, model, length, self.floor)

    def capacity(self, model: AdaptedModel, layer: LayerFacts, tokens: int) -> tuple[int, int]:
        """Entries that the bytes of `tokens` plain tokens pay for, and how many are dropped at
        once; raises Refused where none would stay."""
        capacity, run = (
            affordable(layer, model.dtype, tokens, attention_mass=True),
            max(1, tokens // RUNS),
        )
        if capacity <= run:
            raise Refused(
                f"h2o: {tokens} tokens do not pay for one entry and what h2o notes beside it",
                "give a budget of at least 4",
            )
        return capacity, run

    def start_retention(self, model: AdaptedModel) -> HeavyHitters:
        return HeavyHitters(self)


class HeavyHitters:
    """Goes on keeping the latest entries and the best of the others; `score` says which are best.

    limits: by layer, how many entries set off the next deletion.
    """

    window = 0
    wants_attention_mass = True
    wants_token_nll = False

    def __init__(self, method: H2O) -> None:
        self.method = method
        self.tokens = 0
        self.limits: dict[int, int] = {}

    def retain(self, group: HeadGroup, update: CacheUpdate) -> None:
        if update.phase is Phase.CHUNK:
            return
        layer, model = update.layer, update.sequence.model
        if update.phase is Phase.PREFILL:
            self.tokens = self.method.tokens(model, len(update.sequence))
            self.limits[layer.index] = self.tokens + 1
        if len(group.compressible) < self.limits[layer.index]:
            return
        capacity, run = self.method.capacity(model, layer, self.tokens)
        self._drop(group, capacity - run, run, len(update.sequence))
        self.limits[layer.index] = capacity

    def _drop(self, group: HeadGroup, count: int, room: int, seen: int) -> None:
        held = len(group.compressible)
        older = held - round(count * self.method.recent)
        heavy = (
            self.score(group.compressible, seen)[:, :older]
            .topk(count - (held - older), dim=1)
            .indices.sort(1)
            .values
        )
        last = torch.arange(older, held, device=heavy.device).expand(len(heavy), -1)
        group.keep(torch.cat([heavy, last], 1), room)

    def score(self, compressible: KVStore, seen: int) -> Tensor:
        """What decides who stays, `[kv_heads, entries]`, after `seen` tokens."""
        attention_mass = compressible.attention_mass()
        assert attention_mass is not None
        return (
            attention_mass / (seen - compressible.index())
            if self.method.normalise
            else attention_mass
        )

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        if not self.limits:
            return None
        left = (n - len(sequence.head_groups(i)[0].compressible) for i, n in self.limits.items())
        return min(left)


__all__ = ["H2O", "HeavyHitters"]
