"""Memory that runs out in the middle of a request ends that request, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.api.model import Model
from lengthwise.errors import OutOfMemory
from lengthwise.testing.tiny import tiny_model
from tests.tiny_tokenizers import byte_level

PROMPTS = [list(range(3, 13)), list(range(5, 45)), list(range(20, 40))]
RECIPES = ["full", "lookup", "snapkv(budget=50%) + recycling", "streaming(window=16)", "superposed"]
ERRORS = [
    MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
]  # fmt: skip
Break = Callable[[int, Exception], None]


@pytest.fixture
def model() -> Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15, vocab_size=64))


@pytest.fixture
def breaks(model: Model, monkeypatch: pytest.MonkeyPatch) -> Break:
    """Makes the n-th forward from now on fail, in its last layer, once."""

    def at(number: int, error: Exception) -> None:
        forward, calls = model.adapted.forward, 0

        def broken(ids: Any, positions: Any, attention: Any, *rest: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            this = calls

            def attended(layer: int, *qkv: Any) -> Any:
                out = attention(layer, *qkv)
                if this == number and layer == len(model.adapted.layers) - 1:
                    raise error
                return out

            return forward(ids, positions, attended, *rest, **more)

        monkeypatch.setattr(model.adapted, "forward", broken)

    return at


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("number", [1, 2, 6])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_request_ends_with_one_line_and_the_model_stays_usable(
    model: Model, breaks: Break, recipe: str, number: int, error: Exception
) -> None:
    wanted = model.generate(PROMPTS[1], recipe, max_new_tokens=20, stop_ids=[]).token_ids
    breaks(number, error)
    with pytest.raises(OutOfMemory, match="out of memory on cpu behind") as raised:
        model.generate(PROMPTS[1], recipe, max_new_tokens=20, stop_ids=[])
    assert "\n" not in str(raised.value) and "snapkv" in str(raised.value)
    assert model.generate(PROMPTS[1], recipe, max_new_tokens=20, stop_ids=[]).token_ids == wanted


@pytest.mark.parametrize("number", [5, 8])
def test_of_a_batch_the_longest_ends_and_the_others_go_on(
    model: Model, breaks: Break, number: int
) -> None:
    wanted = model.generate_batch(PROMPTS, "full", max_new_tokens=12, stop_ids=[])
    breaks(number, MemoryError())  # three prompts are read first
    found = model.generate_batch(PROMPTS, "full", max_new_tokens=12, stop_ids=[])
    assert [row.failed is not None for row in found] == [False, True, False]
    assert found[1].metrics.finish_reason == "out_of_memory"
    assert found[1].token_ids == wanted[1].token_ids[: len(found[1].token_ids)]
    assert len(found[1].token_ids) == number - 3
    for row in (0, 2):
        assert found[row].token_ids == wanted[row].token_ids


def test_a_prompt_that_does_not_fit_ends_alone(model: Model, breaks: Break) -> None:
    wanted = model.generate_batch(PROMPTS, "lookup", max_new_tokens=12, stop_ids=[])
    breaks(1, MemoryError())
    found = model.generate_batch(PROMPTS, "lookup", max_new_tokens=12, stop_ids=[])
    assert isinstance(found[0].failed, OutOfMemory) and not found[0].token_ids
    assert [row.token_ids for row in found[1:]] == [row.token_ids for row in wanted[1:]]


def test_a_stream_says_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level()
    small = tiny_model("llama", initializer_range=0.15, vocab_size=len(tokenizer))
    model = lengthwise.wrap(small, tokenizer)
    whole = "".join(model.stream(PROMPTS[0], "full", max_new_tokens=12, stop_ids=[]))
    forward, calls = model.adapted.forward, []

    def broken(*given: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 8:
            raise MemoryError
        return forward(*given, **more)

    monkeypatch.setattr(model.adapted, "forward", broken)
    pieces: list[str] = []
    with pytest.raises(OutOfMemory):
        for piece in model.stream(PROMPTS[0], "full", max_new_tokens=12, stop_ids=[]):
            pieces.append(piece)
    assert whole.startswith("".join(pieces))


def test_other_errors_are_what_they_were(model: Model, breaks: Break) -> None:
    breaks(3, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model.generate(PROMPTS[0], "full", max_new_tokens=12, stop_ids=[])
