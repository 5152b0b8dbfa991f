"""A third party's plug-in, as one file: keep the newest tokens of the prompt and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from lengthwise.engine.group import Group
from lengthwise.engine.roles import Moment
from lengthwise.engine.sequence import Sequence
from lengthwise.methods.base import Budget, Method, Question, option
from lengthwise.models.adapt import Adapted


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

    def start_retention(self, model: Adapted) -> _Newest:
        return _Newest(self.budget)


class _Newest:
    window = 0
    wants_stat = False
    wants_surprise = False

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def retain(self, group: Group, moment: Moment) -> None:
        if moment.kind != "prefill":
            return
        model = moment.sequence.model
        keep = self.budget.tokens(len(moment.sequence), model.bytes_per_token)
        held = len(group.body)
        if keep < held:
            group.keep(torch.arange(held - keep, held))

    def room(self, sequence: Sequence) -> int | None:
        return None
