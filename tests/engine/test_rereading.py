"""Tokens that are taken back and read again leave what reading them at once leaves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.engine import rereading
from lengthwise.engine.kv_cache.cache_plan import CachePlan
from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.rereading import Rereading, reread
from lengthwise.testing.tiny import tiny, tokens

PLANS = {
    "full": CachePlan(),
    "a window with far keys": CachePlan(placement=Placement(window=16, anchored=True)),
}


def keys(sequence: Sequence) -> list[Tensor]:
    found = []
    for _, group in sequence.groups():
        stores = [store.read() for store in (group.far, group.near)]
        found.append(torch.cat([s.key for s in stores if s is not None], 1))
    return found


@pytest.mark.parametrize("plan", PLANS.values(), ids=list(PLANS))
@pytest.mark.parametrize("length", [1, 30, 47, 59])
def test_what_is_read_again_is_what_was_there(plan: CachePlan, length: int) -> None:
    text = tokens(60)
    sequence = Sequence(tiny("llama"), plan)
    prefill(sequence, text, 7)
    sequence.end_prefill()
    before = keys(sequence.fork())
    starts = [group.near_start for _, group in sequence.groups()]
    reread(sequence, length)
    assert list(sequence.tokens) == text
    assert [group.near_start for _, group in sequence.groups()] == starts
    for mine, theirs in zip(keys(sequence), before, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(("length", "chunk", "counts"), [(59, 9, [1]), (50, 9, [9, 1])])
def test_a_piece_of_one_token_is_one_of_a_prompt(
    monkeypatch: pytest.MonkeyPatch, length: int, chunk: int, counts: list[int]
) -> None:
    """A selection would take it for a step of decoding."""
    sequence = Sequence(tiny("llama"), PLANS["a window with far keys"])
    prefill(sequence, tokens(40), 7)
    sequence.end_prefill()
    teacher_force(sequence, tokens(20, seed=2))
    before, extend = (sequence.prompt_length, sequence.reading), rereading.extend
    read: list[StepMetadata] = []

    def seen(*given: Any) -> Any:
        found = extend(*given)
        read.extend(found[1])
        return found

    monkeypatch.setattr(rereading, "extend", seen)
    monkeypatch.setattr(rereading, "chunk_of", lambda device, scores: chunk)
    reread(sequence, length)
    assert [step.count for step in read] == counts
    assert all(step.prompt and step.length == 60 for step in read)
    assert (sequence.prompt_length, sequence.reading) == before


def test_every_so_many_tokens_are_read_again() -> None:
    sequence = Sequence(tiny("llama"), PLANS["a window with far keys"])
    sequence.renewal = Rereading(5)
    sequence.last_logits = prefill(sequence, tokens(30))
    assert sequence.tokens_until_change() is None
    sequence.end_prefill()
    rooms = []
    for token in tokens(12, seed=2):
        rooms.append(sequence.renewal.tokens_until_change(sequence))
        teacher_force(sequence, [token])
    assert rooms == [5, 4, 3, 2, 1] * 2 + [5, 4]
    assert sequence.renewal.right == 40 and len(sequence) == 42
