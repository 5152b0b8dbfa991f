"""A forward behind a prompt shows what its tokens attend to, and leaves nothing."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kv_cache.aside import read_aside
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.retention import CacheUpdate, CacheView, ReadAside
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill, teacher_force
from lengthwise.engine.plan import FULL, Plan
from lengthwise.methods.positions.dynamic_ntk import DynamicNTK
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tokens

PROMPT, ASIDE = 70, 30
Shown = dict[int, tuple[Tensor, Tensor, Tensor]]


class Asking:
    """Reads some tokens aside and drops nothing."""

    window = 0
    wants_attention_mass = wants_token_nll = False

    def __init__(self, text: Seq[int]) -> None:
        self.text = text
        self.shown: Shown = {}
        self.retained_before = 0
        self.retained = 0

    def ask_model(self, sequence: CacheView, read: ReadAside) -> None:
        self.retained_before = self.retained
        assert list(sequence.tokens) == tokens(PROMPT)

        def watch(layer: LayerFacts, query: Tensor, held: Tensor, new: Tensor) -> None:
            self.shown[layer.index] = query.clone(), held.clone(), new.clone()

        read(self.text, watch)

    def retain(self, group: HeadGroup, update: CacheUpdate) -> None:
        self.retained += 1

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        return None


def ended(family: str, text: Seq[int], plan: Plan = FULL) -> tuple[Sequence, Asking]:
    asking = Asking(text)
    sequence = Sequence(tiny(family), replace(plan, retention=lambda: asking))
    prefill(sequence, tokens(PROMPT), 32)
    # Parts of a prompt are retained too: what counts is what the end of the prompt does.
    asking.retained = 0
    sequence.end_prefill()
    return sequence, asking


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt_oss", "deepseek_v3"])
def test_reading_aside_leaves_the_sequence_as_it_was(family: str) -> None:
    aside, _ = ended(family, tokens(ASIDE, seed=1))
    plain = Sequence(tiny(family))
    prefill(plain, tokens(PROMPT), 32)
    plain.end_prefill()
    assert len(aside) == PROMPT and aside.nbytes() == plain.nbytes()
    # Windows of the model's own hold more while a chunk is read.
    assert aside.peak_bytes >= plain.peak_bytes + (1 if family == "llama" else 0)
    more = tokens(12, seed=2)
    assert torch.equal(teacher_force(aside, more), teacher_force(plain, more))


@pytest.mark.parametrize("count", [1, ASIDE])
def test_what_is_shown_is_what_reading_on_computes(count: int) -> None:
    text = tokens(count, seed=1)
    _, asking = ended("llama", text)
    read = Sequence(tiny("llama"))
    prefill(read, [*tokens(PROMPT), *text], 32)
    assert set(asking.shown) == {0, 1} and asking.retained == 2
    assert asking.retained_before == 0
    for layer, (query, held, new) in asking.shown.items():
        keys = read.layers[layer].groups[0].near.tail
        assert keys is not None
        assert query.shape[1] == count
        assert torch.allclose(torch.cat([held, new], 1), keys.key, atol=1e-5)


def test_layers_with_a_window_of_their_own_are_not_shown() -> None:
    _, asking = ended("gemma3_text", tokens(ASIDE, seed=1))
    assert set(asking.shown) == {2}


def test_keys_that_turn_with_the_length_are_shown_where_the_prompt_left_them() -> None:
    model = tiny("llama")
    plan = resolve([DynamicNTK()], model)
    text = tokens(ASIDE, seed=1)
    sequence, asking = ended("llama", text, plan)
    # One more token of a forward of a single query sees the same keys, turned for the prompt.
    query, held, _ = asking.shown[0]
    entries = sequence.layers[0].groups[0].near.read()
    assert entries is not None and entries.key.shape == held.shape
    assert not torch.allclose(entries.key, held, atol=1e-3)
    angles = model.rope.angles(  # type: ignore[union-attr]
        model.layers[0].layout, None, torch.arange(PROMPT), sequence.layers[0].rule, PROMPT
    )  # type: ignore[arg-type]
    turned = model.layers[0].layout.rotate(entries.key, angles)  # type: ignore[union-attr]
    assert torch.allclose(turned, held, atol=1e-5)
    assert query.shape[1] == ASIDE


def test_a_forward_that_fails_leaves_the_sequence_as_it_was() -> None:
    sequence = Sequence(tiny("llama"))
    prefill(sequence, tokens(PROMPT), 32)
    sequence.end_prefill()
    held = sequence.nbytes()

    def watch(layer: LayerFacts, query: Tensor, held: Tensor, new: Tensor) -> None:
        if layer.index:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        read_aside(sequence, tokens(ASIDE, seed=1), watch)
    assert sequence.nbytes() == held and len(sequence) == PROMPT
    ((logits,), _) = extend([(sequence, tokens(5, seed=3), None)], "all")
    assert logits.isfinite().all()
