"""A third party's plug-in, as one file: keep the newest tokens of the prompt and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.retention import CacheUpdate, Phase
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.methods.base import Budget, Method, Question, option
from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class Lately(Method):
    """Forgets all of the prompt but its end."""

    name: ClassVar[str] = "lately"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[None] = None
    ordinary_only: ClassVar[bool] = True
    budget: Budget = option(Budget(1024), "newest tokens of the prompt that are kept")

    @classmethod
    def identity(cls, length: int) -> Lately:
        return cls(budget=Budget(length))

    def start_retention(self, model: AdaptedModel) -> _Newest:
        return _Newest(self.budget)


class _Newest:
    window = 0
    wants_attention_mass = False
    wants_token_nll = False

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def retain(self, group: HeadGroup, update: CacheUpdate) -> None:
        if update.phase is not Phase.PREFILL:
            return
        model = update.sequence.model
        keep = self.budget.tokens(len(update.sequence), model.bytes_per_token)
        held = len(group.compressible)
        if keep < held:
            group.keep(torch.arange(held - keep, held))

    def tokens_until_change(self, sequence: Sequence) -> int | None:
        return None
