"""SirLLM: a streaming cache that remembers what was surprising.

Yao, Li and Zhao, "SirLLM: Streaming Infinite Retentive LLM", 2024, arXiv 2405.12528. StreamingLLM
forgets everything but its first tokens and its window. Here part of the cache belongs to the tokens
the model found hardest to predict, which are those that carry news; a decay over turns lets old
news fade.

    score_j = -log p(token j | tokens before it) * decay^(turns since j)
    kept    = first `start` tokens, most recent ones, and among the rest those of the highest score
    keys stand at their rank in the cache, queries continue from there

One set of tokens is kept for all layers and heads. A sequence here does not know who speaks, so a
turn is a fixed number of tokens. The authors prune before every turn; here the cache is pruned when
it exceeds its budget, by 1/64 of it at a time, so that it is full and small steps stay cheap. What
a token could see thus depends on the chunks the prompt was read in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.group import Group
from lengthwise.engine.placement import Placement
from lengthwise.engine.roles import Moment
from lengthwise.engine.sequence import Sequence
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Budget, Method, Question, option
from lengthwise.models.adapt import Adapted

# A score above any surprise, for the first token, which nothing predicted.
UNPREDICTED = 1e6


@dataclass(frozen=True)
class SirLLM(Method):
    """budget: tokens kept in all. start: first ones among them. recent: share of the others that
    belongs to the most recent; what is left is the memory of surprising tokens."""

    name: ClassVar[str] = "sirllm"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[str] = "SirLLM: Streaming Infinite Retentive LLM (2024)"
    chunking_exact: ClassVar[bool] = False
    raw_keys: ClassVar[bool] = True
    deletes_each_step: ClassVar[bool] = True
    budget: Budget = option(Budget(1024), "how much is kept")
    start: int = option(4, "first tokens that are kept", low=0)
    recent: float = option(0.35, "share of the rest for the most recent tokens", low=0.0, high=1.0)
    decay: float = option(1.0, "what a score keeps per turn (1: for ever)", low=0.0, high=1.0)
    turn: int = option(256, "tokens of a turn", low=1)

    @classmethod
    def identity(cls, length: int) -> SirLLM:
        return cls(budget=Budget(max(length, 2 * cls.start)))

    def placement(self, model: Adapted) -> Placement:
        return Placement(compact=True)

    def start_retention(self, model: Adapted) -> Memory:
        # Birth ids are stored beside keys and values: int32 in every layer.
        return Memory(self, model.bytes_per_token + 4 * len(model.layers))


@dataclass
class Memory:
    """bytes_per_token: what a kept token costs over all layers. The choice made at one length is
    kept, since all layers share it."""

    method: SirLLM
    bytes_per_token: int
    window: int = 0
    wants_stat: bool = False
    wants_surprise: bool = True
    chosen_at: int = -1
    chosen: Tensor | None = None

    def limit(self, sequence: Sequence) -> int | None:
        """Most tokens held; None while a share of a prompt of unknown length is asked for."""
        budget, length = self.method.budget, sequence.prompt_length or sequence.expected
        if budget.unit == "%" and not length:
            return None
        tokens = budget.tokens(length, self.bytes_per_token)
        if tokens <= self.method.start:
            raise RecipeError(
                f"{self.method.name}: budget {budget} keeps {tokens} tokens, which leaves none "
                f"beside start={self.method.start}; give more or a smaller start"
            )
        return tokens

    def retain(self, group: Group, moment: Moment) -> None:
        limit = self.limit(moment.sequence)
        if limit is None or group.kept() <= limit:
            return
        room = max(1, limit // 64)
        if self.chosen_at != len(moment.sequence):
            index = group.body.index()[0].long()
            self.chosen = self.choose(moment.sequence, index, max(1, limit - room))
            self.chosen_at = len(moment.sequence)
        assert self.chosen is not None
        group.keep(self.chosen, room)

    def choose(self, sequence: Sequence, index: Tensor, count: int) -> Tensor:
        """Which `count` of the entries with birth ids `[n]` stay: their places, ascending."""
        method, total = self.method, len(index)
        start = min(int((index < method.start).sum()), count)
        recent = round(method.recent * (count - start))
        surprise = torch.tensor([sequence.surprise[i] for i in index.tolist()])
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

    def room(self, sequence: Sequence) -> int | None:
        limit = self.limit(sequence)
        if limit is None:
            return None
        held = max(
            (
                group.kept()
                for index, layer in enumerate(sequence.layers)
                if not sequence.layers[index].own_window
                for group in layer.groups
            ),
            default=0,
        )
        return max(1, limit + 1 - held)
