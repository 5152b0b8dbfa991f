"""Texts piece by piece: the pieces are the text, and whoever leaves has stopped the generation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

import lengthwise
from lengthwise.engine import loop
from lengthwise.errors import LengthwiseError, NotFinite, RecipeError
from lengthwise.testing.tiny import tiny_model, tokens

PROMPT = tokens(40)


def letters() -> PreTrainedTokenizerFast:
    """One character a token."""
    model = models.BPE({chr(0x100 + number): number for number in range(128)}, [])
    found = Tokenizer(model)
    found.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=found)


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama"), letters())


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of every forward that is run."""
    found: list[int] = []
    extend = loop.extend

    def counted(items: Any, *rest: Any, **more: Any) -> Any:
        found.append(sum(len(each[1]) for each in items))
        return extend(items, *rest, **more)

    monkeypatch.setattr(loop, "extend", counted)
    return found


def pieces_of(stream: Iterator[str], most: int) -> list[str]:
    return [piece for _, piece in zip(range(most), stream, strict=False)]


@pytest.mark.parametrize("recipe", ["full", "lookup + fixed"])
@pytest.mark.parametrize("asked", [{}, {"temperature": 0.8, "seed": 7}, {"stop": True}])
def test_pieces_are_the_text_of_generate(
    model: lengthwise.Model, recipe: str, asked: dict[str, Any]
) -> None:
    asked = {"max_new_tokens": 20, "stop_ids": [], **asked}
    if asked.pop("stop", None):
        # A single string is one stop string, not its characters.
        text = model.generate(PROMPT, recipe, **asked).text
        asked["stop"] = text[8:11]
    whole = model.generate(PROMPT, recipe, **asked)
    with model.stream(PROMPT, recipe, **asked) as stream:
        pieces = list(stream)
    assert "".join(pieces) == whole.text and len(pieces) > 2
    assert stream.generation.token_ids == whole.token_ids
    assert stream.generation.text == whole.text
    assert stream.generation.metrics.finish_reason == whole.metrics.finish_reason
    assert next(stream, None) is None


def test_nothing_runs_but_what_the_next_piece_takes(
    model: lengthwise.Model, forwards: list[int]
) -> None:
    stream = model.stream(PROMPT, max_new_tokens=200, stop_ids=[])
    assert not forwards
    said = pieces_of(stream, 3)
    assert len(said) == 3 and 0 < len(forwards) < 20
    before = len(forwards)
    stream.close()
    assert len(forwards) == before and list(stream) == []
    found = stream.generation
    assert found.metrics.finish_reason == "cancelled" and found.metrics.kv_bytes > 0
    assert found.text.startswith("".join(said)) and 0 < len(found.token_ids) < 30
    # The model is as it was.
    again = model.generate(PROMPT, max_new_tokens=8, stop_ids=[])
    assert again.token_ids[: len(found.token_ids)] == found.token_ids[:8]


def test_leaving_the_loop_ends_the_generation(model: lengthwise.Model, forwards: list[int]) -> None:
    for _ in model.stream(PROMPT, max_new_tokens=200, stop_ids=[]):
        break
    assert len(forwards) < 10
    with pytest.raises(KeyError), model.stream(PROMPT, max_new_tokens=200, stop_ids=[]) as stream:
        next(stream)
        raise KeyError
    assert stream.generation.metrics.finish_reason == "cancelled"


def test_another_thread_ends_a_prompt_that_is_being_read(
    model: lengthwise.Model, forwards: list[int]
) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def progress(_: int) -> None:
        reading.set()
        assert go_on.wait(20)

    stream = model.stream(PROMPT * 4, chunk=16, max_new_tokens=50, progress=progress)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.extend(stream))
    reader.start()
    assert reading.wait(20)
    closer = threading.Thread(target=stream.close)
    closer.start()
    while not stream._stopped.is_set():
        pass
    go_on.set()
    closer.join(20)
    reader.join(20)
    assert found == [] and forwards == [16]
    assert stream.generation.metrics.finish_reason == "cancelled"
    assert stream.generation.metrics.prompt_tokens == len(PROMPT) * 4


def test_a_callback_may_end_it_too(model: lengthwise.Model, forwards: list[int]) -> None:
    stream = model.stream(
        PROMPT * 4, chunk=16, max_new_tokens=50, progress=lambda _: stream.close()
    )
    assert list(stream) == [] and forwards == [16]
    assert stream.generation.text == ""


def test_whether_it_was_broken_off_amid_a_forward_is_told(model: lengthwise.Model) -> None:
    def stopped(_: int) -> None:
        raise KeyboardInterrupt

    stream = model.stream(PROMPT, max_new_tokens=4, progress=stopped)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert stream.broken
    with model.stream(PROMPT, max_new_tokens=4, stop_ids=[]) as stream:
        next(stream)
    assert not stream.broken


def test_several_streams_of_one_model_take_turns(model: lengthwise.Model) -> None:
    asked = {"max_new_tokens": 12, "stop_ids": []}
    alone = [
        model.generate(PROMPT[:n], "snapkv(budget=16, window=8)", **asked).text for n in (9, 30)
    ]
    one, other = (model.stream(PROMPT[:n], "snapkv(budget=16, window=8)", **asked) for n in (9, 30))
    found = ["", ""]
    for _ in range(30):
        found = [found[0] + next(one, ""), found[1] + next(other, "")]
    assert found == alone


def test_errors_come_where_they_do_in_generate(model: lengthwise.Model) -> None:
    with pytest.raises(RecipeError, match="did you mean"):
        model.stream(PROMPT, "lookpu")
    with pytest.raises(LengthwiseError, match="'do_sample' is no option of stream"):
        model.stream(PROMPT, do_sample=True)  # type: ignore[call-arg]
    with pytest.raises(LengthwiseError, match="still being written"):
        _ = model.stream(PROMPT).generation
    bad = tiny_model("llama", tie_word_embeddings=False)
    bad.get_input_embeddings().weight.data[PROMPT[-1]] = torch.nan
    with lengthwise.wrap(bad, model.tokenizer) as wrapped:
        stream = wrapped.stream(PROMPT, max_new_tokens=4)
        with pytest.raises(NotFinite):
            next(stream)
        assert next(stream, None) is None
        assert stream.generation.metrics.finish_reason == "not_finite"


def test_an_asynchronous_stream_leaves_the_loop_to_others(model: lengthwise.Model) -> None:
    asked = {"max_new_tokens": 40, "stop_ids": []}
    whole = model.generate(PROMPT, **asked)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    async def read() -> tuple[list[str], lengthwise.AsyncStream]:
        ticking = asyncio.create_task(tick())
        stream = model.astream(PROMPT, **asked)
        pieces = [piece async for piece in stream]
        ticking.cancel()
        assert [piece async for piece in stream] == []
        return pieces, stream

    pieces, stream = asyncio.run(read())
    assert "".join(pieces) == whole.text and len(pieces) > 2
    assert stream.generation.token_ids == whole.token_ids
    assert ticks > 1


@pytest.mark.parametrize("reading", [True, False], ids=["prompt", "text"])
def test_cancelling_the_task_ends_the_generation_before_the_task(
    model: lengthwise.Model, forwards: list[int], reading: bool
) -> None:
    begun = threading.Event()
    said: list[str] = []

    async def read(stream: lengthwise.AsyncStream) -> None:
        async for piece in stream:
            said.append(piece)
            begun.set()

    async def main() -> lengthwise.AsyncStream:
        stream = model.astream(
            PROMPT * 5, chunk=8, max_new_tokens=200, stop_ids=[],
            progress=lambda _: begun.set() if reading else None,
        )  # fmt: skip
        task = asyncio.create_task(read(stream))
        while not begun.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return stream

    stream = asyncio.run(main())
    before = len(forwards)
    assert bool(said) != reading
    assert before < (len(PROMPT) * 5 // 8 if reading else 200)
    assert stream.generation.metrics.finish_reason == "cancelled"
    assert model.generate(PROMPT, max_new_tokens=2, stop_ids=[]).token_ids
    assert len(forwards) == before + 2


def test_breaking_out_and_closing_an_asynchronous_stream(
    model: lengthwise.Model, forwards: list[int]
) -> None:
    async def main() -> None:
        async with model.astream(PROMPT, max_new_tokens=200, stop_ids=[]) as stream:
            async for _ in stream:
                break
        assert stream.generation.metrics.finish_reason == "cancelled"
        with pytest.raises(RecipeError):
            async for _ in model.astream(PROMPT, "lookpu"):
                pass

    asyncio.run(main())
    assert len(forwards) < 10
    assert not [t for t in threading.enumerate() if t.name.startswith("lengthwise") and t.is_alive()
                and not t.daemon and t.join(10) is not None]  # fmt: skip
