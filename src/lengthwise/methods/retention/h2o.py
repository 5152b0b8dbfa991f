"""H2O: Heavy-Hitter Oracle for Efficient Generative Inference of LLMs
(Zhang et al. 2023, arXiv:2306.14048).

A few tokens receive most of the attention and go on receiving it. Keep these heavy hitters and the
most recent tokens, and go on choosing while decoding. With p the softmax of the model,

    a[j] = sum over all queries i >= j and the query heads of a group of p[i, j]
    kept = the latest tokens + the largest a of the others, per key head

Ours: entries are dropped in runs of budget/64, not one a step, so that memory is freed for real and
drafts have room; `normalise` divides a[j] by the queries that could see j, since plain sums favour
old tokens. The index and the sum of every entry are paid out of the budget. Every query's whole row
of probabilities is needed, so recipes that skip keys are refused. A share is never fewer tokens
than `floor`, where the authors cut a prompt of any length.

Defaults are the paper's and its released code's: a fifth of the prompt, half of it the latest
tokens (heavy and recent ratio 0.1 each).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from lengthwise.engine.entries import Segment
from lengthwise.engine.group import Group
from lengthwise.engine.roles import Moment
from lengthwise.engine.sequence import Sequence
from lengthwise.errors import Refused
from lengthwise.methods.base import Budget, Method, Question, option
from lengthwise.methods.retention.counting import (
    affordable,
    floor_option,
    full_layers,
    layer_tokens,
    needs_full_layers,
)

if TYPE_CHECKING:
    from lengthwise.engine.placement import Placement
    from lengthwise.models.adapt import Adapted
    from lengthwise.models.probe import LayerFacts

# Entries are dropped in runs of this share of the budget.
RUNS = 64


@dataclass(frozen=True)
class H2O(Method):
    """Keeps the entries that have received the most attention, and the latest."""

    name: ClassVar[str] = "h2o"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[str] = "H2O, Zhang et al. 2023, arXiv:2306.14048"
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

    def check(self, model: Adapted) -> None:
        needs_full_layers(self.name, model)

    def check_prompt(self, model: Adapted, length: int, placement: Placement) -> None:
        tokens = self.tokens(model, length)
        for layer in full_layers(model):
            self.capacity(model, layer, tokens)

    def tokens(self, model: Adapted, length: int) -> int:
        """Plain tokens whose bytes a layer may hold once a prompt of `length` tokens was read."""
        return layer_tokens(self.budget, model, length, self.floor)

    def capacity(self, model: Adapted, layer: LayerFacts, tokens: int) -> tuple[int, int]:
        """Entries that the bytes of `tokens` plain tokens pay for, and how many are dropped at
        once; raises Refused where none would stay."""
        capacity, run = affordable(layer, model.dtype, tokens, stat=True), max(1, tokens // RUNS)
        if capacity <= run:
            raise Refused(
                f"h2o: {tokens} tokens do not pay for one entry and what h2o notes beside it",
                "give a budget of at least 4",
            )
        return capacity, run

    def start_retention(self, model: Adapted) -> HeavyHitters:
        return HeavyHitters(self)


class HeavyHitters:
    """Goes on keeping the latest entries and the best of the others; `score` says which are best.

    limits: by layer, how many entries set off the next deletion.
    """

    window = 0
    wants_stat = True
    wants_surprise = False

    def __init__(self, method: H2O) -> None:
        self.method = method
        self.tokens = 0
        self.limits: dict[int, int] = {}

    def retain(self, group: Group, moment: Moment) -> None:
        if moment.kind == "chunk":
            return
        layer, model = moment.layer, moment.sequence.model
        if moment.kind == "prefill":
            self.tokens = self.method.tokens(model, len(moment.sequence))
            self.limits[layer.index] = self.tokens + 1
        if len(group.body) < self.limits[layer.index]:
            return
        capacity, run = self.method.capacity(model, layer, self.tokens)
        self._drop(group, capacity - run, run, len(moment.sequence))
        self.limits[layer.index] = capacity

    def _drop(self, group: Group, count: int, room: int, seen: int) -> None:
        held = len(group.body)
        older = held - round(count * self.method.recent)
        heavy = (
            self.score(group.body, seen)[:, :older]
            .topk(count - (held - older), dim=1)
            .indices.sort(1)
            .values
        )
        last = torch.arange(older, held, device=heavy.device).expand(len(heavy), -1)
        group.keep(torch.cat([heavy, last], 1), room)

    def score(self, body: Segment, seen: int) -> Tensor:
        """What decides who stays, `[kv_heads, entries]`, after `seen` tokens."""
        stat = body.stat()
        assert stat is not None
        return stat / (seen - body.index()) if self.method.normalise else stat

    def room(self, sequence: Sequence) -> int | None:
        if not self.limits:
            return None
        left = (n - len(sequence.layers[i].groups[0].body) for i, n in self.limits.items())
        return min(left)


__all__ = ["H2O", "HeavyHitters"]
