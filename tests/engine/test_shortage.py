"""Memory that runs out in the middle of a request ends that request, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.api.model import Model
from lengthwise.engine.kv_cache.sequence import Sequence
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
    breaks(number, MemoryError())  # the prompts are read together first
    found = model.generate_batch(PROMPTS, "full", max_new_tokens=12, stop_ids=[])
    assert [row.failed is not None for row in found] == [False, True, False]
    assert found[1].metrics.finish_reason == "out_of_memory"
    assert found[1].token_ids == wanted[1].token_ids[: len(found[1].token_ids)]
    assert len(found[1].token_ids) == number - 1
    for row in (0, 2):
        assert found[row].token_ids == wanted[row].token_ids


@pytest.mark.parametrize("recipe", ["full", "lookup", "streaming(window=16)"])
@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_row_that_cannot_be_kept_ends_with_all_it_said(
    model: Model, monkeypatch: pytest.MonkeyPatch, recipe: str, row: int
) -> None:
    """Memory runs out as what a step said is put into the cache, behind rows that have theirs."""
    wanted = model.generate_batch(PROMPTS, recipe, max_new_tokens=12, stop_ids=[])
    commit, steps = Sequence.commit, 0

    def broken(sequence: Sequence, *given: Any) -> None:
        nonlocal steps
        if sequence.prompt_length is not None and sequence.tokens[:5] == PROMPTS[row][:5]:
            steps += 1
            if steps == 3:
                raise MemoryError
        commit(sequence, *given)

    monkeypatch.setattr(Sequence, "commit", broken)
    found = model.generate_batch(PROMPTS, recipe, max_new_tokens=12, stop_ids=[])
    assert [each.failed is not None for each in found] == [n == row for n in range(3)]
    said = found[row].token_ids
    assert said and said == wanted[row].token_ids[: len(said)]
    for other in {0, 1, 2} - {row}:
        assert found[other].token_ids == wanted[other].token_ids


def test_the_text_holds_all_tokens_of_a_row_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level()
    small = tiny_model("llama", initializer_range=0.15, vocab_size=len(tokenizer))
    model, steps, commit = lengthwise.wrap(small, tokenizer), 0, Sequence.commit

    def broken(sequence: Sequence, *given: Any) -> None:
        nonlocal steps
        steps += sequence.prompt_length is not None
        if steps == 4:
            raise MemoryError
        commit(sequence, *given)

    monkeypatch.setattr(Sequence, "commit", broken)
    (found,) = model.generate_batch([PROMPTS[0]], max_new_tokens=12, stop_ids=[])
    assert found.failed is not None and len(found.token_ids) == 5
    assert found.text == tokenizer.decode(found.token_ids)


def test_a_prompt_that_does_not_fit_ends_alone(model: Model, breaks: Break) -> None:
    wanted = model.generate_batch(PROMPTS, "lookup", max_new_tokens=12, stop_ids=[])
    breaks(1, MemoryError())  # all of them together
    breaks(2, MemoryError())  # the first alone
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
