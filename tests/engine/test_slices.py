"""A chunk that goes through the model layer by layer is what it is in one go."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.slices import Slices
from lengthwise.errors import Refused
from lengthwise.testing.tiny import tiny_model, tokens

RECIPES = ["full", "streaming", "h2o(budget=32)", "kivi(residual=8)", "infllm", "yarn(factor=4)",
           "entropy_abf(trained=16, exempt=1)"]  # fmt: skip
PROMPT = tokens(120)


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama", max_position_embeddings=2048))


def begun(model: lengthwise.Model, recipe: str) -> Sequence:
    sequence = Sequence(model.adapted, model.plan(recipe), expected=160)
    loop.prefill(sequence, PROMPT[:30])
    return sequence


@pytest.mark.parametrize("recipe", RECIPES)
def test_layer_by_layer_is_all_at_once(model: lengthwise.Model, recipe: str) -> None:
    right, mine, other = (begun(model, recipe) for _ in range(3))
    loop.prefill(right, PROMPT[30:90])
    slices, times = Slices(mine, PROMPT[30:90]), 0
    while not slices.done:
        slices.advance(0.0)
        # Another text is read meanwhile.
        loop.prefill(other, PROMPT[40 + times : 44 + times])
        times += 1
    assert times == len(model.adapted.layers) + 1
    assert slices.seconds > 0 and mine.tokens[:] == right.tokens[:]
    assert mine.nbytes() == right.nbytes()
    assert mine.last_logits is not None and right.last_logits is not None
    assert torch.equal(mine.last_logits, right.last_logits)


def test_all_layers_at_once_where_there_is_time(model: lengthwise.Model) -> None:
    mine = begun(model, "full")
    slices = Slices(mine, PROMPT[30:90])
    slices.advance(float("inf"))
    assert slices.done and len(mine) == 90


def test_a_model_that_changes_meanwhile_leaves_what_was_read(model: lengthwise.Model) -> None:
    changing = lengthwise.wrap(tiny_model("llama", max_position_embeddings=2048))
    mine = begun(changing, "full")
    slices = Slices(mine, PROMPT[30:90])
    slices.advance(0.0)
    up = changing.adapted.model.model.layers[0].mlp.up_proj
    up.weight = torch.nn.Parameter(2 * up.weight.detach())
    begun(changing, "full")
    while not slices.done:
        slices.advance(0.0)
    assert len(mine) == 30
    again, right = Slices(mine, PROMPT[30:90]), begun(model, "full")
    again.advance(float("inf"))
    loop.prefill(right, PROMPT[30:90])
    assert len(mine) == len(right) == 90


def test_what_fails_leaves_what_was_read(
    model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = begun(model, "full")
    attend = Sequence.attend

    def fail(self: Sequence, layer: int, *given: Any, **named: Any) -> Any:
        if layer == 1:
            raise MemoryError
        return attend(self, layer, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Sequence, "attend", fail)
        slices = Slices(mine, PROMPT[30:90])
        slices.advance(0.0)
        with pytest.raises(MemoryError):
            slices.advance(0.0)
    right = begun(model, "full")
    for sequence in (mine, right):
        loop.prefill(sequence, PROMPT[30:90])
    assert mine.last_logits is not None and right.last_logits is not None
    assert torch.equal(mine.last_logits, right.last_logits)


def test_a_first_chunk_is_read_with_the_frequencies_of_its_prompt() -> None:
    """And the next ones need read nothing again."""
    rope = {
        "rope_type": "longrope", "short_factor": [1.0] * 8, "rope_theta": 1e4,
        "long_factor": [1.0 + 3 * i for i in range(8)], "original_max_position_embeddings": 32,
    }  # fmt: skip
    model = lengthwise.wrap(tiny_model("llama", rope_parameters=rope, max_position_embeddings=32))
    right, mine = (Sequence(model.adapted, model.plan("full"), expected=160) for _ in range(2))
    loop.prefill(right, PROMPT[:90])
    mine.reading = 90
    for start in (0, 45):
        slices = Slices(mine, PROMPT[start : start + 45])
        while not slices.done:
            slices.advance(0.0)
    assert mine.read_again == [] and len(mine) == 90
    assert mine.last_logits is not None and right.last_logits is not None
    assert torch.allclose(mine.last_logits, right.last_logits, rtol=0, atol=1e-4)


def test_not_where_modules_run_nor_beyond_the_models_positions() -> None:
    model = lengthwise.wrap(tiny_model("gpt2", max_position_embeddings=64))
    sequence = Sequence(model.adapted, model.plan("full"))
    assert not Slices(sequence, tokens(20)).possible
    with pytest.raises(Refused, match="64"):
        Slices(sequence, tokens(80))
