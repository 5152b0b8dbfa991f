"""Heads of a layer keep and see what a table says, whatever the chunks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kv_cache import groups, new_parts
from lengthwise.engine.kv_cache.head_policy import HeadPolicy, sinks_and_recent, split
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.plan import FULL, Plan
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny, tokens

SINKS, RECENT = 3, 7
STREAM = sinks_and_recent(SINKS, RECENT)
TEXT = tokens(60)


def seen(model: AdaptedModel, keeps: dict[int, list[bool]]) -> Tensor:
    """Logits under masks alone: heads that do not keep everything see first and latest tokens."""
    index = torch.arange(len(TEXT))
    distance = index[:, None] - index

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        facts = model.layers[layer]
        assert facts.layout is not None and model.rope is not None
        angles = model.rope.angles(facts.layout, facts.rotary_type, index)
        query, key = facts.layout.rotate(query, angles), facts.layout.rotate(key, angles)
        group = facts.num_heads // facts.num_kv_heads
        scores = query @ key.repeat_interleave(group, 0).mT * facts.scaling
        stream = (distance >= 0) & ((distance < RECENT) | (index < SINKS))
        rows = [
            distance >= 0 if whole else stream
            for whole in keeps.get(layer, [True] * facts.num_kv_heads)
        ]
        hidden = ~torch.stack(rows).repeat_interleave(group, 0)
        return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value.repeat_interleave(
            group, 0
        )

    return model.through_modules(torch.tensor(TEXT), index, attend)


def plan_of(model: AdaptedModel, keeps: dict[int, list[bool]]) -> Plan:
    table = {index: split(model.layers[index], row, STREAM) for index, row in keeps.items()}
    return replace(FULL, head_table=table)


@pytest.mark.parametrize("keeps", [
    {0: [True, False], 1: [False, True]}, {0: [False, False]}, {1: [False, True]},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_heads_see_what_their_policy_says(
    keeps: dict[int, list[bool]], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_parts, "LEAST_ROWS", 16)
    model = tiny("llama")
    sequence = Sequence(model, plan_of(model, keeps))
    assert sequence.max_block() is None
    prefill(sequence, TEXT[:50], chunk)
    sequence.end_prefill()
    # What is there before each of the last ten tokens says how likely they are.
    right = seen(model, keeps)[49:59]
    assert torch.allclose(teacher_force(sequence, TEXT[50:], 3), right, atol=1e-4)
    for layer, row in keeps.items():
        kept = {group.kept() for group in sequence.head_groups(layer)}
        assert kept == {60 if whole else SINKS + RECENT - 1 for whole in row}


def test_a_tree_of_guesses_sees_kept_tokens_of_its_own() -> None:
    model = tiny("llama")
    plan = plan_of(model, {0: [False, False], 1: [False, False]})
    found = []
    for count in (20, 1):
        sequence = Sequence(model, plan)
        prefill(sequence, TEXT[:1])
        sequence.end_prefill()
        found.append(teacher_force(sequence, TEXT[1:21], count))
    assert torch.allclose(*found, atol=1e-4)


def test_one_policy_is_enough_where_all_heads_do_the_same() -> None:
    layer = tiny("llama").layers[0]
    assert split(layer, [True, True], STREAM) == (HeadPolicy(),)
    assert split(layer, [False, False], STREAM) == (HeadPolicy(placement=STREAM),)
    assert split(layer, [False, True], STREAM) == (HeadPolicy((1,)), HeadPolicy((0,), STREAM))


def test_a_table_drops_where_a_head_does() -> None:
    model = tiny("llama")
    assert plan_of(model, {0: [False, True]}).drops
    assert not plan_of(model, {0: [True, True]}).drops


@pytest.mark.parametrize("family", ["llama", "gpt_oss", "gemma2"])
@pytest.mark.parametrize("prompt", [2, 6, 9, 40])
def test_single_steps_are_what_the_general_way_gives(
    family: str, prompt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(family)
    keeps = {x.index: [False, True] for x in model.layers if x.window is None}
    found, steps = [], []
    for way in (groups._step, lambda *given: None):
        with monkeypatch.context() as patched:
            patched.setattr(
                groups, "_step", lambda *given, way=way: steps.append(way(*given)) or steps[-1]
            )
            sequence = Sequence(model, plan_of(model, keeps))
            prefill(sequence, TEXT[:prompt])
            sequence.end_prefill()
            found.append(teacher_force(sequence, TEXT[prompt : prompt + 20], 1))
    assert torch.allclose(*found, atol=1e-4)
    plain = [each for each in steps if each is not None]
    assert bool(plain) == (family == "llama")
