"""SirLLM: a streaming cache that remembers what was surprising.

Yao et al., "SirLLM: Streaming Infinite Retentive LLM", ACL 2024, arXiv:2405.12528.

StreamingLLM forgets everything but its first tokens and its window. Here part of the cache belongs
to the tokens the model found hardest to predict, which are those that carry news. A decay over
turns makes old news less important.

    score_j = -log p(token j | tokens before it) * decay^(turns since j)
    kept    = first `start` tokens, the turn under way, `recent` of the others, and among the rest
              those of the highest score
    keys stand at their rank in the cache, queries continue from there

One set of tokens is kept for all layers and heads.

Ours: a sequence here does not know who speaks, so a turn is a fixed number of tokens. The authors
prune before a turn and make room for all of it, so nothing of a turn is lost while it lasts. Here
the cache is pruned when it exceeds its budget, by 1/64 of it at a time. The latest `turn` tokens
stay, half of the budget at most. What a token could see depends on the chunks the prompt was read
in. A share is one of the prompt, also while it is read.

Defaults are those of the commands in the authors' repository for two of their three tasks: 4 first
tokens, 1,020 others, recent=0, decay=1. (Rock-paper-scissors has decay=0.9; DailyDialog 508 others
and decay=0.7.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.retention import CacheUpdate, CacheView
from lengthwise.errors import Refused
from lengthwise.methods.base import Budget, Method, Paper, Question, option
from lengthwise.methods.retention.counting import (
    SIDE_BYTES,
    floor_option,
    layer_tokens,
    needs_full_layers,
)
from lengthwise.models.adapted_model import AdaptedModel

# A score above any surprise, for the first token, which nothing predicted.
UNPREDICTED = 1e6


@dataclass(frozen=True)
class SirLLM(Method):
    """budget: tokens kept in all. start: first ones among them. recent: share of the others that
    belongs to the most recent, the turn under way included; what is left is the memory of
    surprising tokens."""

    name: ClassVar[str] = "sirllm"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[Paper] = Paper(
        "SirLLM: Streaming Infinite Retentive LLM",
        "Yao et al.",
        2024,
        arxiv="2405.12528",
        venue="ACL",
        code="https://github.com/Zoeyyao27/SirLLM",
    )
    chunking_exact: ClassVar[bool] = False
    raw_keys: ClassVar[bool] = True
    deletes_each_step: ClassVar[bool] = True
    budget: Budget = option(Budget(1024), "how much is kept")
    start: int = option(4, "first tokens that are kept", low=0)
    recent: float = option(0.0, "share of the rest for the most recent tokens", low=0.0, high=1.0)
    decay: float = option(1.0, "what a score keeps per turn (1: for ever)", low=0.0, high=1.0)
    turn: int = option(256, "tokens of a turn; the latest of them always stay", low=1)
    floor: int = floor_option()

    @classmethod
    def example(cls) -> SirLLM:
        return cls(budget=Budget(16), turn=4)

    @classmethod
    def identity(cls, length: int) -> SirLLM:
        return cls(budget=Budget(max(length, 2 * cls.start)))

    def check(self, model: AdaptedModel) -> None:
        needs_full_layers(self.name, model)
        if self.budget.unit == "tokens":
            self.tokens(model, 1)

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        self.tokens(model, length)

    def tokens(self, model: AdaptedModel, length: int) -> int:
        """Tokens that are held of a prompt of `length` tokens, and from then on."""
        # Birth ids are stored beside keys and values in every layer.
        floor = self.start + self.floor
        tokens = layer_tokens(self.budget, model, length, floor, SIDE_BYTES)
        if tokens <= self.start:
            raise Refused(
                f"{self.name}: budget {self.budget} keeps {tokens} tokens, which leaves none "
                f"beside start={self.start}",
                f"give more than {self.start} tokens or a smaller start",
            )
        return tokens

    def placement(self, model: AdaptedModel) -> Placement:
        return Placement(compact=True)

    @property
    def reads_by_length(self) -> bool:
        return self.budget.unit == "%"

    def start_retention(self, model: AdaptedModel) -> Memory:
        return Memory(self)


@dataclass
class Memory:
    """limits: tokens held, by length of the prompt. chosen_of: length, tokens held and limit that
    `chosen` is the choice for; layers hold the same tokens, so the first one's choice serves all.
    """

    method: SirLLM
    window: int = 0
    wants_attention_mass: bool = False
    wants_token_nll: bool = True
    limits: dict[int, int] = field(default_factory=dict)
    chosen_of: tuple[int, int, int] = (-1, -1, -1)
    chosen: Tensor | None = None

    def limit(self, sequence: CacheView) -> int | None:
        """Most tokens held; None where that depends on a prompt whose length is not known yet."""
        length = sequence.expected_prompt
        if not length and self.method.budget.unit != "tokens":
            return None
        if length not in self.limits:
            self.limits[length] = self.method.tokens(sequence.model, length)
        return self.limits[length]

    def retain(self, group: HeadGroup, update: CacheUpdate) -> None:
        limit, held = self.limit(update.sequence), group.kept()
        if limit is None or held <= limit:
            return
        room = max(1, limit // 64)
        of = (len(update.sequence), held, limit)
        if self.chosen_of != of:
            index = group.compressible.index()[0].long()
            self.chosen = self.choose(update.sequence, index, max(1, limit - room))
            self.chosen_of = of
        assert self.chosen is not None
        group.keep(self.chosen, room)

    def choose(self, sequence: CacheView, index: Tensor, count: int) -> Tensor:
        """Which `count` of the entries with birth ids `[n]` stay: their places, ascending."""
        method, total = self.method, len(index)
        start = min(int((index < method.start).sum()), count)
        rest = count - start
        recent = max(round(method.recent * rest), min(method.turn, rest // 2))
        surprise = torch.tensor([sequence.token_nll[i] for i in index.tolist()])
        turns = (len(sequence) - 1) // method.turn - index.cpu() // method.turn
        score = surprise.clamp_max(UNPREDICTED) * method.decay**turns
        middle = score[start : total - recent]
        # Of equal scores the more recent one stays: a decay of 0 leaves recency alone.
        order = middle.flip(0).argsort(descending=True, stable=True)[: count - start - recent]
        places = [
            torch.arange(start),
            start + len(middle) - 1 - order.sort(descending=True).values,
            torch.arange(total - recent, total),
        ]
        return torch.cat(places).to(index.device)

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        limit = self.limit(sequence)
        if limit is None:
            return None
        groups = [g for layer in sequence.pruned_layers() for g in sequence.head_groups(layer)]
        held = max((group.kept() for group in groups), default=0)
        return max(1, limit + 1 - held)
