"""A forward of some tokens among entries that are there: on all layouts, and as stock gives it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from lengthwise.engine.kv_cache.editing import why_not_movable
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.mixed import Enough, opened, recompute, replace_tokens, settle
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny, tiny_model, tokens

TEXT, NEW = tokens(40), tokens(5, seed=3)
START, STOP = 12, 15
EDITED = [*TEXT[:START], *NEW, *TEXT[STOP:]]
# Halves, partial, interleaved, last channels only, layers without, two bases, sinks and half width.
FAMILIES: dict[str, dict[str, int]] = {
    "llama": {}, "gpt_neox": {}, "phi": {}, "glm": {}, "cohere": {}, "stablelm": {},
    "persimmon": {}, "ernie4_5": {}, "smollm3": {}, "deepseek_v3": {}, "youtu": {}, "qwen3": {},
    "gemma3_text": {"sliding_window": 64}, "gpt_oss": {"sliding_window": 64},
    "gemma2": {"sliding_window": 64}, "mistral": {"sliding_window": 64},
}  # fmt: skip


def read(model: AdaptedModel, ids: list[int], chunk: int | None = None) -> Sequence:
    sequence = Sequence(model)
    prefill(sequence, ids, chunk)
    return sequence


def stored(sequence: Sequence, layer: int) -> tuple[Tensor, Tensor]:
    tail = sequence.layers[layer].groups[0].near.tail
    assert tail is not None
    return tail.key, tail.value


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout_turns_as_the_model_would(family: str) -> None:
    model = adapt(tiny_model(family, **FAMILIES[family]))
    old, whole = read(model, TEXT), read(model, EDITED)
    assert why_not_movable(old, len(EDITED)) is None
    new, first = replace_tokens(old, START, STOP, NEW)
    assert first is None and list(new.tokens) == EDITED
    for mine, theirs in zip(stored(new, 0), stored(whole, 0), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    behind = START + len(NEW)
    for layer in range(len(model.layers)):
        for mine, theirs in zip(stored(new, layer), stored(whole, layer), strict=True):
            assert torch.allclose(mine[:, :behind], theirs[:, :behind], atol=2e-5)
    # All of them computed again, in pieces and in a scattered order of forwards, is full reading.
    last = recompute(new, EDITED, torch.arange(len(EDITED)), chunk=7)
    assert torch.allclose(last, whole.last_logits, atol=1e-4)


@pytest.mark.parametrize("kind", ["longrope", "yarn", "llama3"])
def test_frequencies_of_the_model_turn_with_it(kind: str) -> None:
    known = {
        "longrope": {"rope_type": "longrope", "short_factor": [1.0] * 8, "rope_theta": 1e4,
                     "long_factor": [2.0] * 8, "original_max_position_embeddings": 64},
        "yarn": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4,
                 "original_max_position_embeddings": 64},
        "llama3": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 1e4, "low_freq_factor": 1.0,
                   "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
    }  # fmt: skip
    model = adapt(tiny_model("llama", rope_parameters=known[kind]))
    old, whole = read(model, TEXT), read(model, EDITED)
    new, _ = replace_tokens(old, START, STOP, NEW)
    assert torch.allclose(stored(new, 0)[0], stored(whole, 0)[0], atol=1e-5)
    if kind == "longrope":
        assert "other frequencies" in str(why_not_movable(old, 65))


def test_the_logits_are_those_of_stock_over_the_same_entries() -> None:
    model = tiny("llama")
    stock = model.model
    cache = DynamicCache(config=stock.config)
    with torch.no_grad():
        stock(torch.tensor([TEXT[:START] + NEW]), past_key_values=cache)
        whole = DynamicCache(config=stock.config)
        stock(torch.tensor([TEXT]), past_key_values=whole)
        shift = torch.tensor([[len(EDITED) - len(TEXT)]])
        cos, sin = stock.model.rotary_emb(torch.zeros(1), shift)
        for mine, theirs in zip(cache.layers, whole.layers, strict=True):
            key = theirs.keys[:, :, STOP:-1]
            turned = apply_rotary_pos_emb(key, key, cos, sin)[1]
            mine.keys = torch.cat([mine.keys, turned], 2)
            mine.values = torch.cat([mine.values, theirs.values[:, :, STOP:-1]], 2)
        last = stock(torch.tensor([EDITED[-1:]]), past_key_values=cache).logits[0, -1]
    new, _ = replace_tokens(read(model, TEXT), START, STOP, NEW)
    assert torch.allclose(new.last_logits, last, atol=1e-4)


def test_windows_are_moved_while_nothing_has_left_them() -> None:
    model = adapt(tiny_model("mistral", sliding_window=24))
    short, rest = TEXT[:20], tokens(9, seed=4)
    whole = read(model, [*short[:17], *rest, *short[18:]])
    new, _ = replace_tokens(read(model, short), 17, 18, rest)
    # More tokens than the window holds: what left it is gone, as in a text that was read.
    for layer, fresh in zip(new.layers, whole.layers, strict=True):
        assert len(layer.groups[0].near) == len(fresh.groups[0].near) < len(whole)
        assert layer.groups[0].near_start == fresh.groups[0].near_start > 0
    assert torch.equal(stored(new, 0)[0], stored(whole, 0)[0]) or torch.allclose(
        stored(new, 0)[0], stored(whole, 0)[0], atol=1e-5
    )
    assert "window of 24 tokens" in str(why_not_movable(new, 30))


def test_places_are_moved_where_all_of_them_are() -> None:
    model = tiny("llama")
    sequence = Sequence(model, offset=1000)
    prefill(sequence, TEXT)
    new, _ = replace_tokens(sequence, START, STOP, NEW)
    plain, _ = replace_tokens(read(model, TEXT), START, STOP, NEW)
    assert torch.allclose(new.last_logits, plain.last_logits, atol=1e-4)


def test_families_without_rotations_are_told() -> None:
    assert "no rotary positions" in str(why_not_movable(read(tiny("gpt2"), TEXT), 41))
    done = read(tiny("llama"), TEXT)
    done.end_prefill()
    assert "compressed" in str(why_not_movable(done, 41))


def test_what_the_head_read_is_kept_for_drafters() -> None:
    model = tiny("llama")
    old, whole = Sequence(model), Sequence(model)
    for sequence, ids in ((old, TEXT), (whole, EDITED)):
        sequence.noted = []
        prefill(sequence, ids, 16)
    new, _ = replace_tokens(old, START, STOP, NEW)
    assert new.noted is not None and whole.noted is not None and old.noted is not None
    mine, theirs, before = (torch.cat(each.noted or []) for each in (new, whole, old))
    behind = START + len(NEW)
    assert torch.allclose(mine[:behind], theirs[:behind], atol=1e-5)
    assert torch.equal(mine[behind:-1], before[STOP:-1])


@pytest.mark.parametrize(("start", "stop"), [(START, STOP), (len(TEXT) - 1, len(TEXT))])
def test_of_an_edited_text_the_last_state_is_kept_where_no_more_was_noted(
    start: int, stop: int
) -> None:
    model = tiny("llama")
    states = []
    for last in (True, False):
        sequence = Sequence(model)
        sequence.noted, sequence.notes_last = [], last
        prefill(sequence, TEXT, 16)
        new, _ = replace_tokens(sequence, start, stop, NEW)
        assert new.notes_last is last
        states.append(torch.cat(new.noted or []))
    assert len(states[0]) == 1 and len(states[1]) == len(TEXT) + len(NEW) - (stop - start)
    assert torch.equal(states[0], states[1][-1:])


def test_a_watch_ends_a_forward_before_its_layer_is_written() -> None:
    model, seen = tiny("llama"), []
    whole = read(model, TEXT)
    new = opened(whole, len(TEXT))
    for layer in new.layers:
        for entry in layer.groups[0].near.tail.tensors()[:2]:
            entry.zero_()

    def watch(layer: object, query: Tensor, key: Tensor, value: Tensor, rows: Tensor) -> None:
        seen.append((layer.facts.index, rows.tolist()))
        if layer.facts.index == 1:
            raise Enough

    assert recompute(new, TEXT, torch.arange(len(TEXT)), 16, watch) is None
    assert [index for index, _ in seen] == [0, 1] * 3
    assert torch.allclose(stored(new, 0)[0], stored(whole, 0)[0], atol=1e-5)
    assert not stored(new, 1)[0].any()
    last = recompute(new, TEXT, torch.arange(len(TEXT)), 16)
    assert last is not None
    settle(new, TEXT, last)
    assert torch.allclose(new.last_logits, whole.last_logits, atol=1e-4)
    assert recompute(new, TEXT, torch.arange(0)) is None
