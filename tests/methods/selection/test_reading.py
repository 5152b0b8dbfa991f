"""The window of another method comes off a selection's budget, and may leave nothing of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import Queries
from lengthwise.errors import Refused
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.bases import ScoredSelection
from lengthwise.methods.positions.self_extend import SelfExtend
from lengthwise.methods.selection.hip import HiP
from lengthwise.methods.selection.quest import Quest
from lengthwise.methods.selection.tidal import Tidal
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny


@dataclass(frozen=True)
class Even(ScoredSelection):
    """All far keys are worth the same."""

    name: ClassVar[str] = "even"

    def score(self, queries: Queries, far: KVStore) -> Tensor:
        return torch.zeros(len(far))


# A window of 1,024 overhangs by 63 tokens.
CASES: list[tuple[Method, int]] = [
    (HiP(), 1024 + 63 + 16 + 1 + 2),
    (Tidal(dense=0, reselect=0), 1024 + 63 + 1),
    (Quest(), 1024 + 63 + 15 + 3 * 16),
    (Even(), 1024 + 63 + 4 + 1),
]


@pytest.mark.parametrize(("method", "least"), CASES, ids=lambda case: str(case))
def test_a_window_that_leaves_nothing_to_choose_is_refused(method: Method, least: int) -> None:
    model = tiny("llama")
    for each in (method, replace(method, budget=Budget(least - 1))):  # type: ignore[call-arg]
        plan = resolve([each, SelfExtend()], model)
        with pytest.raises(Refused, match=rf"1024 tokens.*\(budget={least}\) or more"):
            plan.check_prompt(100)
    for budget in (Budget(least), Budget(25, "%")):
        chosen = replace(method, budget=budget)  # type: ignore[call-arg]
        resolve([chosen, SelfExtend()], model).check_prompt(100)
    # With its own window, or one that is as short, it chooses.
    resolve([method], model).check_prompt(100)
    resolve([method, SelfExtend(window=64)], model).check_prompt(100)
