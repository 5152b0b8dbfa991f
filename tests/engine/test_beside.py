"""A piece of a prompt in the forward of a step: both are what each is alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.engine import loop
from lengthwise.engine.beside import Beside, takes_back
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import Refused
from lengthwise.testing.tiny import tiny_model, tokens

RECIPES = [
    "full", "lookup", "recycling + kivi(residual=8)", "streaming", "h2o(budget=32)",
    "snapkv(budget=40, window=8)", "infllm", "dynamic_ntk(factor=2)", "self_extend", "superposed",
]  # fmt: skip
PROMPT = tokens(90)


@pytest.fixture(scope="module", params=["llama", "gemma2", "gpt_oss"])
def model(request: pytest.FixtureRequest) -> lengthwise.Model:
    return lengthwise.wrap(tiny_model(request.param, max_position_embeddings=2048))


def plan(model: lengthwise.Model, recipe: str) -> Any:
    try:
        return model.plan(recipe)
    except Refused:
        pytest.skip(f"{recipe} is not for {model.adapted.family}")


def started(model: lengthwise.Model, recipe: str, rows: int) -> list[Request]:
    found = []
    for row in range(rows):
        sequence = Sequence(model.adapted, plan(model, recipe), expected=120)
        request = loop.begin(sequence, Sampling(), 24, ())
        loop.start(request, loop.prefill(sequence, tokens(20 + 7 * row)))
        found.append(request)
    return found


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("rows", [1, 3])
def test_both_are_what_they_are_alone(model: lengthwise.Model, recipe: str, rows: int) -> None:
    alone, together = started(model, recipe, rows), started(model, recipe, rows)
    right = Sequence(model.adapted, plan(model, "full"), expected=120)
    mine = Sequence(model.adapted, plan(model, "full"), expected=120)
    for sequence in (right, mine):
        loop.prefill(sequence, PROMPT[:30])
    for start in range(30, 90, 12):
        part = PROMPT[start : start + 12]
        said = loop.step(alone)
        loop.prefill(right, part)
        beside = Beside(mine, part)
        found = loop.step(together, beside=beside)
        if not beside.read:
            # Who writes in a mode has a forward of another kind.
            assert recipe == "superposed"
            loop.prefill(mine, part)
        if "lookup" not in recipe and "recycling" not in recipe:
            assert found == said
        assert right.last_logits is not None and mine.last_logits is not None
        assert torch.allclose(mine.last_logits, right.last_logits, rtol=0, atol=1e-4)
    assert mine.tokens[:] == right.tokens[:] and mine.nbytes() == right.nbytes()
    for one, other in zip(alone, together, strict=True):
        # How much is guessed in a step depends on what steps took.
        both = min(len(one.output), len(other.output))
        assert both >= 6 or recipe == "superposed"
        assert one.output[:both] == other.output[:both]


def test_hidden_states_are_those_of_who_writes() -> None:
    model = lengthwise.wrap(tiny_model("llama", max_position_embeddings=2048))
    (request,) = started(model, "full", 1)
    mine = Sequence(model.adapted, model.plan("full"), expected=120)
    states: list[torch.Tensor] = []
    loop._forward([request], [[request.pending]], None, states, Beside(mine, PROMPT[:9]))
    assert states[0].shape == (1, model.adapted.model.config.hidden_size)


def test_what_fails_together_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lengthwise.wrap(tiny_model("llama", max_position_embeddings=2048))
    alone, together = started(model, "lookup", 2), started(model, "lookup", 2)
    mine = Sequence(model.adapted, model.plan("full"), expected=120)
    loop.prefill(mine, PROMPT[:30])
    attend = Sequence.attend

    def fail(self: Sequence, layer: int, *given: Any, **named: Any) -> Any:
        if self is mine and layer == 1:
            raise MemoryError
        return attend(self, layer, *given, **named)

    monkeypatch.setattr(Sequence, "attend", fail)
    for _ in range(3):
        beside = Beside(mine, PROMPT[30:40])
        loop.step(together, beside=beside), loop.step(alone)
        for one, other in zip(alone, together, strict=True):
            both = min(len(one.output), len(other.output))
            assert one.output[:both] == other.output[:both]
        assert not beside.read and len(mine) == 30
    assert not any(request.done for request in together)


def broken_off(monkeypatch: pytest.MonkeyPatch, model: lengthwise.Model, beside: Beside) -> None:
    """A step with a piece beside it whose last layer has attended when memory runs out."""
    attend = Sequence.attend

    def fail(self: Sequence, layer: int, *given: Any, **named: Any) -> Any:
        out = attend(self, layer, *given, **named)
        if self is beside.sequence and layer == len(model.adapted.layers) - 1:
            raise MemoryError
        return out

    with monkeypatch.context() as patched:
        patched.setattr(Sequence, "attend", fail)
        loop.step(started(model, "full", 2), beside=beside)
    assert not beside.read


@pytest.mark.parametrize(
    "recipe",
    [
        "full", "snapkv(budget=16, window=8)", "expected_attention(budget=16)", "h2o(budget=32)",
        "hip(budget=24, window=8, init=4, block=2, query_block=8, dense=0)",
        "token_select(budget=32, window=16, init=2, query_block=8)",
        "infllm(budget=32, window=16, block=4, init=2, query_block=8)",
    ],
)  # fmt: skip
@pytest.mark.parametrize("held", [0, 30])
def test_what_was_broken_off_is_read_as_if_it_had_not_been(
    monkeypatch: pytest.MonkeyPatch, recipe: str, held: int
) -> None:
    model = lengthwise.wrap(tiny_model("llama", max_position_embeddings=2048))
    mine, right = (Sequence(model.adapted, model.plan(recipe), expected=120) for _ in range(2))
    for sequence in (mine, right) if held else ():
        loop.prefill(sequence, PROMPT[:held])
    if not takes_back(mine):
        assert held and mine.plan.selector is not None
        return
    broken_off(monkeypatch, model, Beside(mine, PROMPT[held : held + 40]))
    # Fewer than the last queries that some remember, behind what was read before.
    part = PROMPT[held : held + 4] if held else PROMPT[:60]
    for sequence in (mine, right):
        sequence.reading = 0
        loop.prefill(sequence, part)
    assert mine.tokens[:] == right.tokens[:] and mine.nbytes() == right.nbytes()
    for ours, theirs in zip(mine.layers, right.layers, strict=True):
        queries, wanted = ours.last_queries(), theirs.last_queries()
        assert (queries is None) == (wanted is None)
        if queries is not None and wanted is not None:
            assert torch.allclose(queries, wanted, atol=1e-5)
        if ours.moments is not None and theirs.moments is not None:
            assert ours.moments.count == theirs.moments.count
            assert torch.allclose(ours.moments.covariance(), theirs.moments.covariance(), atol=1e-5)
    for sequence in (mine, right):
        sequence.end_prefill()
    logits = [loop.extend([(sequence, [5], None)])[0][0] for sequence in (mine, right)]
    assert torch.allclose(*logits, rtol=0, atol=1e-4)


def test_a_prompt_beyond_the_models_positions_is_refused_before_it_is_read() -> None:
    model = lengthwise.wrap(tiny_model("gpt2", max_position_embeddings=64))
    with pytest.raises(Refused, match="64"):
        Beside(Sequence(model.adapted, model.plan("full")), tokens(80))
