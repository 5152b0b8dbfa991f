"""Settings of Squeezed Attention, sequences whose prompt has ended, and spies on what is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.methods.selection.squeezed import ClusteredKeys, Squeezed
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tokens
from tests.methods.selection.selection_runs import plan_of

FLAT = Squeezed(removed=0.5, clusters=0.25, levels=1, window=8)
TWO = Squeezed(removed=0.6, clusters=0.25, coarse=0.1, window=8)
EXACT = Squeezed(removed=0.7, clusters=1.0, levels=1, window=8)
ENDED = 64


def ended(model: AdaptedModel, method: Squeezed, length: int = ENDED) -> Sequence:
    """A sequence whose prompt is complete."""
    sequence = Sequence(model, plan_of(method, model))
    prefill(sequence, tokens(length), 16)
    sequence.end_prefill()
    return sequence


def selectors(sequence: Sequence) -> list[ClusteredKeys]:
    found = [group.selector for _, group in sequence.groups()]
    return [each for each in found if isinstance(each, ClusteredKeys)]


def spy(monkeypatch: pytest.MonkeyPatch, note: Callable[..., Any]) -> None:
    """Calls note with every selector, its queries and far entries, and what it chose."""
    plan = ClusteredKeys.plan

    def watched(self: ClusteredKeys, queries: Queries, far: KVStore) -> SelectedKeys | None:
        choice = plan(self, queries, far)
        note(self, queries, far, choice)
        return choice

    monkeypatch.setattr(ClusteredKeys, "plan", watched)


def keys_seen(choice: SelectedKeys, heads: int, count: int) -> Tensor:
    """Bool `[heads, count]`: which of the far entries each head sees."""
    ids = choice.ids.repeat_interleave(heads // len(choice.ids), 0)
    assert choice.mask is not None
    return torch.zeros(heads, count, dtype=torch.bool).scatter_(1, ids, choice.mask[:, 0])
