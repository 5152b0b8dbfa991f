"""Votes are the probabilities that queries gave keys as they met them, however keys are stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.received import newest_attention, received_attention
from lengthwise.engine.kv_cache.retention import CacheUpdate, Phase
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.watching import follow_queries
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.plan import FULL
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model, tokens

COUNT, WINDOW = 60, 8
GROWING = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}


class Watcher:
    """Notes the votes of the first layer that it is shown."""

    window = WINDOW
    wants_attention_mass = wants_token_nll = False

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, CacheUpdate, HeadGroup]] = []

    def retain(self, group: HeadGroup, update: CacheUpdate) -> None:
        if update.phase is Phase.PREFILL:
            self.seen.append((received_attention(group, update, WINDOW), update, group))

    def tokens_until_change(self, sequence: Sequence) -> None:
        return None


def growing(trained: int, **rope: Any) -> AdaptedModel:
    changes: dict[str, Any] = {"rope_parameters": rope} if rope else {}
    return adapt(tiny_model("llama", max_position_embeddings=trained, **changes))


def read(model: AdaptedModel) -> Sequence:
    sequence = Sequence(model, replace(FULL, retention=Watcher))
    prefill(sequence, tokens(COUNT), 23)
    sequence.end_prefill()
    return sequence


def votes(sequence: Sequence) -> list[Tensor]:
    assert isinstance(sequence.retention, Watcher)
    return [found for found, _, _ in sequence.retention.seen]


@pytest.mark.parametrize("trained", [16, 59])
def test_votes_beyond_the_trained_length_of_a_model_whose_frequencies_grow(trained: int) -> None:
    model = growing(trained, **GROWING)
    sequence = read(model)
    assert isinstance(sequence.retention, Watcher) and model.rope is not None
    mask = torch.arange(COUNT)[None] > torch.arange(COUNT - WINDOW, COUNT)[:, None]
    for found, update, group in sequence.retention.seen:
        layout, entries = update.layer.layout, group.near.read()
        assert layout is not None and entries is not None and update.queries is not None
        angles = model.rope.angles(
            layout, update.layer.rotary_type, torch.arange(COUNT), None, COUNT
        )
        key = layout.rotate(entries.key, angles).repeat_interleave(2, 0)
        logits = update.queries[:, -WINDOW:] @ key.mT * update.layer.scaling
        right = logits.masked_fill(mask, -torch.inf).softmax(-1).sum(1)
        assert torch.allclose(found, right, atol=1e-5)


def test_votes_below_the_trained_length_are_those_of_the_model_that_does_not_grow() -> None:
    plain, same = read(growing(256)), read(growing(256, **GROWING))
    for mine, theirs in zip(votes(same), votes(plain), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_the_newest_querys_attention_is_that_of_the_model_that_does_not_grow() -> None:
    found = []
    for model in (growing(256), growing(256, **GROWING)):
        sequence = Sequence(model)
        sequence.last_logits = prefill(sequence, tokens(COUNT))
        sequence.end_prefill()
        follow_queries(sequence.layers)
        teacher_force(sequence, [7])
        found.append(newest_attention(sequence, 1))
    assert float(found[0].sum()) == pytest.approx(1.0, abs=1e-4)
    assert torch.allclose(*found, atol=1e-5)
