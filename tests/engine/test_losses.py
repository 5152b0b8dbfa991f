"""Which tokens have their loss taken hangs on where they stand, never on how the text was fed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.engine.forced import forced
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.losses import Losses
from lengthwise.errors import LengthwiseError
from lengthwise.testing.tiny import tiny_model, tokens

COUNT = 300
RECIPES = (
    "full",
    "streaming(window=63)",
    "sirllm(budget=128)",
    "lm_infinite(window=64)",
    "snapkv(budget=50%)",
)


@pytest.fixture(scope="module")
def model() -> Any:
    with lengthwise.wrap(tiny_model("llama", vocab_size=512)) as model:
        yield model


def read(model: Any, recipe: str, chunk: int, every: int) -> Losses:
    losses = Losses(every)
    sequence = Sequence(model.adapted, model.plan(recipe), expected=COUNT)
    prefill(sequence, tokens(COUNT), chunk, losses=losses)
    return losses


@pytest.mark.parametrize("every", [1, 8, 7])
def test_the_chunks_decide_neither_the_tokens_nor_their_losses(model: Any, every: int) -> None:
    whole = read(model, "full", COUNT, every)
    assert whole.positions == [place for place in range(1, COUNT) if place % every == 0]
    for chunk in (100, 63, 5, 1):
        parts = read(model, "full", chunk, every)
        assert parts.positions == whole.positions
        assert parts.values == pytest.approx(whole.values, abs=1e-4)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_asked_for_the_same_tokens(model: Any, recipe: str) -> None:
    found = read(model, recipe, 100, 8)
    assert found.positions == list(range(8, COUNT, 8))
    log_p = model.score(tokens(COUNT), recipe, chunk=100)
    assert found.values == pytest.approx([-float(log_p[p - 1]) for p in found.positions], abs=1e-4)


FORCED = (
    "full", "snapkv(budget=64)", "kivi(bits=4)", "h2o(budget=128)", "streaming(window=63)",
    "token_select", "infllm", "quest", "yarn(factor=2)", "think", "int8", "lookup", "razor",
)  # fmt: skip


@pytest.mark.parametrize("recipe", FORCED)
def test_tokens_forced_together_are_predicted_as_one_by_one(model: Any, recipe: str) -> None:
    text = tokens(COUNT)
    apart, together = (
        Sequence(model.adapted, model.plan(recipe), expected=COUNT) for _ in range(2)
    )
    for sequence in (apart, together):
        prefill(sequence, text[:200])
        sequence.end_prefill()
    expected = teacher_force(apart, text[200:])
    parts = list(forced(together, text[200:]))
    assert torch.allclose(torch.cat(parts), expected, atol=2e-3), recipe
    assert together.tokens == text[: COUNT - 1]
    if recipe in ("full", "snapkv(budget=64)", "lookup"):
        assert len(parts) == 3


def test_tokens_are_forced_only_after_a_prompt(model: Any) -> None:
    with pytest.raises(LengthwiseError, match="after a prompt"):
        next(forced(Sequence(model.adapted), [1, 2]))
