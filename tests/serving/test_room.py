"""What a text may come to hold: no less than it ever holds, and no more than its recipe keeps."""

from __future__ import annotations

import pytest
import torch

import lengthwise
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.serving import room
from lengthwise.serving.job import Job
from lengthwise.serving.room import coming_bytes, most_bytes, own_bytes
from lengthwise.serving.scheduler import Scheduler
from lengthwise.testing.tiny import tiny_model, tokens
from tests.serving.asking import Listener, ask

# Birth ids are held beside keys and values, and no estimate counts them.
BESIDE = 1.15
RECIPES = [
    "full", "kivi(residual=8)", "int8", "snapkv(budget=40, window=8)", "h2o(budget=64)",
    "streaming(window=64)", "infllm(window=32, block=8, budget=120)", "sirllm(budget=48)",
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(
        tiny_model("llama", initializer_range=0.15, max_position_embeddings=2048)
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_reserved_covers_what_is_held(model: lengthwise.Model, recipe: str) -> None:
    scheduler, listener = Scheduler(model, 1 << 30), Listener()
    job = Job(model, model.plan(recipe), ask(tokens(700), recipe, new=90), listener)
    scheduler.add(job)
    reserved = []
    while not listener.over.is_set():
        scheduler.step()
        if job.request is not None:
            reserved.append(job.reserved)
            if not job.left:
                assert own_bytes(job.request.sequences) <= BESIDE * job.reserved
    assert len(listener.result().token_ids) == 90
    plain = model.adapted.bytes_per_token * 790
    assert max(reserved) <= plain and job.reserved == 0
    assert recipe in ("full",) or recipe.startswith("infllm") or min(reserved) < 0.8 * plain


def test_a_window_is_what_it_holds(model: lengthwise.Model) -> None:
    each, plan = model.adapted.bytes_per_token, model.plan("streaming(window=64, sinks=4)")
    assert most_bytes(model.adapted, model.plan("full"), 1000, 50) == 1050 * each
    assert most_bytes(model.adapted, plan, 30, 10) == 40 * each
    held = most_bytes(model.adapted, plan, 1000, 50)
    assert 68 * each < held < 90 * each
    assert most_bytes(model.adapted, plan, 1_000_000, 50) == held
    # What a selection chooses from is kept.
    infllm = model.plan("infllm(window=32, block=8, budget=120)")
    assert most_bytes(model.adapted, infllm, 1000, 50) == 1050 * each


def test_layers_with_windows_of_their_own_hold_these() -> None:
    mixed = lengthwise.wrap(tiny_model("gemma2", max_position_embeddings=2048))
    windows = [layer.window for layer in mixed.adapted.layers]
    assert None in windows and any(windows)
    plain = mixed.adapted.bytes_per_token * 1000
    assert plain / 2 < most_bytes(mixed.adapted, mixed.plan("full"), 1000, 0) < 0.6 * plain


def test_room_that_is_made_is_not_counted_again(model: lengthwise.Model) -> None:
    each = model.adapted.bytes_per_token
    tight, roomy = Sequence(model.adapted), Sequence(model.adapted, expected=140)
    for sequence in (tight, roomy):
        prefill(sequence, tokens(100))
    room = next(tight.groups())[1].near.room
    assert coming_bytes(tight, 40) == max(0, 40 - room) * each
    assert coming_bytes(roomy, 40) == 0 and coming_bytes(roomy, 60) == 20 * each


def test_free_bytes_are_those_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory", lambda: 1000)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (80, 90))
    assert room.free_for_entries(torch.device("cpu")) == 1000
    assert room.free_for_entries(torch.device("cuda", 0)) == 80
    monkeypatch.setattr(room, "free_memory", lambda: None)
    assert room.free_for_entries(torch.device("cpu")) == room.UNKNOWN_MEMORY
