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
from lengthwise.engine.kv_cache.retention import CacheUpdate
from lengthwise.errors import Refused
from lengthwise.methods.base import Budget, Paper, Question, option
from lengthwise.methods.retention.counting import affordable, floor_option
from lengthwise.methods.retention.steady import RUNS, Steady, SteadyMethod

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts


@dataclass(frozen=True)
class H2O(SteadyMethod):
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


class HeavyHitters(Steady):
    """Goes on keeping the latest entries and, of the others, those of the best `score`."""

    window = 0
    wants_attention_mass = True
    method: H2O

    def keep(self, group: HeadGroup, update: CacheUpdate, count: int, room: int) -> None:
        held = len(group.compressible)
        older = held - round(count * self.method.recent)
        heavy = (
            self.score(group.compressible, len(update.sequence))[:, :older]
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


__all__ = ["H2O", "HeavyHitters"]
