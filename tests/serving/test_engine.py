"""The engine: many ask at once, and each gets what it gets alone."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.engine.beside import Beside
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.serving import engine as module
from lengthwise.serving.engine import Closing, Engine, Piece, QueueFull
from lengthwise.serving.job import Job
from lengthwise.serving.scheduler import Scheduler
from lengthwise.testing.tiny import tiny_model, tokens
from tests.chat_models import chat_model
from tests.serving.asking import Listener, ask

RECIPES = [
    "full", "lookup", "streaming", "snapkv(budget=40, window=8)", "kivi(residual=8)",
    "h2o(budget=32)", "infllm", "yarn(factor=2) + sam", "recycling + int8", "sirllm(budget=48)",
    "superposed", "quest",
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(
        tiny_model("llama", initializer_range=0.15, max_position_embeddings=2048)
    )


@pytest.fixture
def engine(model: lengthwise.Model) -> Iterator[Engine]:
    running = Engine(model, cache_bytes="64MiB", kv_bytes="256MiB")
    yield running
    running.close()
    model.prefix_cache = None


def prompts(count: int, longest: int = 200) -> list[list[int]]:
    return [tokens(5 + (37 * n) % longest) for n in range(count)]


def test_all_recipes_at_once_say_what_each_says_alone(
    model: lengthwise.Model, engine: Engine
) -> None:
    cases = [(ids, recipe) for recipe in RECIPES for ids in prompts(3)]
    listeners = [Listener() for _ in cases]
    for (ids, recipe), listener in zip(cases, listeners, strict=True):
        engine.submit(ask(ids, recipe), listener)
    for (ids, recipe), listener in zip(cases, listeners, strict=True):
        alone = model.generate(ids, recipe, max_new_tokens=8, stop_ids=[])
        found = listener.result()
        assert found.token_ids == alone.token_ids, recipe
        assert [t for piece in listener.pieces for t in piece.tokens] == found.token_ids
        assert found.metrics.prompt_tokens == len(ids)
    stats = engine.stats()
    assert stats.decoded_tokens == 8 * len(cases)
    assert stats.reasons == {"length": len(cases)}


def test_seeds_are_each_texts_own(model: lengthwise.Model, engine: Engine) -> None:
    listeners = []
    for seed in (1, 2, 1):
        listeners.append(Listener())
        given = Sampling(temperature=1.0, seed=seed)
        engine.submit(ask(tokens(30), sampling=given, new=12), listeners[-1])
    one, two, again = (listener.result().token_ids for listener in listeners)
    assert one == again != two
    alone = model.generate(tokens(30), temperature=1.0, seed=2, max_new_tokens=12, stop_ids=[])
    assert two == alone.token_ids


def test_logprobs_are_those_of_the_model(model: lengthwise.Model, engine: Engine) -> None:
    for recipe in ("full", "lookup"):
        listener = Listener()
        engine.submit(ask(tokens(40), recipe, logprobs=3), listener)
        found = listener.result()
        said = [each for piece in listener.pieces for each in piece.logprobs]
        assert [each.token for each in said] == found.token_ids
        wanted = model.score(tokens(40) + found.token_ids)[39:]
        torch.testing.assert_close(
            torch.tensor([each.logprob for each in said]), wanted[-8:], rtol=0, atol=1e-4
        )
        for each in said:
            values = [value for _, value in each.top]
            assert len(values) == 3 and values == sorted(values, reverse=True)
            # Greedy says the likeliest.
            assert each.top[0][0] == each.token and values[0] == each.logprob


def test_text_and_stop_strings_come_as_they_are_written() -> None:
    talking = chat_model()
    engine = Engine(talking, cache_bytes=0, kv_bytes="64MiB")
    ids = talking.encode("Ada signed the contract.")
    whole = talking.generate(ids, max_new_tokens=24, stop_ids=[]).text
    stop = whole[len(whole) // 2 :][:3]
    for stops in ((), (stop,)):
        listener = Listener()
        engine.submit(ask(ids, new=24, stop=stops), listener)
        found = listener.result()
        wanted = talking.generate(ids, max_new_tokens=24, stop_ids=[], stop=list(stops))
        assert found.text == wanted.text == "".join(piece.text for piece in listener.pieces)
        assert found.metrics.finish_reason == wanted.metrics.finish_reason
    engine.close()


def test_a_prefix_is_read_once_by_those_who_come_together(engine: Engine) -> None:
    shared = tokens(300)
    listeners = [Listener() for _ in range(6)]
    for number, listener in enumerate(listeners):
        engine.submit(ask([*shared, number, number + 1]), listener)
    reused = [listener.result().metrics.reused_tokens for listener in listeners]
    assert sorted(reused)[1:] == [300] * 5
    stats = engine.stats()
    assert stats.reused_tokens == sum(reused) and stats.cache_hits == 5


def test_who_leaves_is_let_go_and_the_others_go_on(engine: Engine) -> None:
    gone, late, other = Listener(), Listener(), Listener()
    ticket = engine.submit(ask(tokens(50), new=1500), gone)
    engine.submit(ask(tokens(51), new=1500, deadline_s=0.2), late)
    engine.submit(ask(tokens(52), new=20), other)
    while not gone.pieces:
        time.sleep(0.01)
    ticket.cancel()
    assert gone.result().metrics.finish_reason == "cancelled"
    assert 0 < len(gone.result().token_ids) < 1500
    assert late.result().metrics.finish_reason == "deadline"
    assert len(other.result().token_ids) == 20
    ticket.cancel()


def test_what_never_fits_is_refused_and_what_does_not_fit_now_waits(
    model: lengthwise.Model,
) -> None:
    each = model.adapted.bytes_per_token
    engine = Engine(model, cache_bytes=0, kv_bytes=200 * each, queue=3)
    with pytest.raises(Refused, match="kv_bytes"):
        engine.submit(ask(tokens(150), new=60), Listener())
    listeners = [Listener() for _ in range(3)]
    for listener in listeners:
        engine.submit(ask(tokens(100), new=90), listener)
    assert [len(listener.result().token_ids) for listener in listeners] == [90] * 3
    held = [Listener() for _ in range(12)]
    with pytest.raises(QueueFull) as full:
        for listener in held:
            engine.submit(ask(tokens(100), new=90), listener)
    assert full.value.retry_after_s >= 1
    engine.close(60)
    model.prefix_cache = None


@pytest.mark.parametrize("bad", [
    {"new": 0}, {"stop_ids": ("x",)}, {"recipe": "yarn + ntk"},
    {"recipe": "superposed", "logprobs": 1},
])  # fmt: skip
def test_what_cannot_run_is_refused_at_once(engine: Engine, bad: dict[str, Any]) -> None:
    given = {"ids": tokens(20), **bad}
    with pytest.raises(LengthwiseError):
        engine.submit(ask(given.pop("ids"), **given), Listener())


def test_closing_ends_what_runs_and_takes_no_more(model: lengthwise.Model) -> None:
    engine = Engine(model, cache_bytes=0, kv_bytes="64MiB")
    short, long = Listener(), Listener()
    engine.submit(ask(tokens(20), new=30), short)
    engine.submit(ask(tokens(20), new=1900), long)
    short.result()
    engine.close(0.05)
    assert long.result().metrics.finish_reason == "cancelled"
    assert not engine.alive
    with pytest.raises(Closing):
        engine.submit(ask(tokens(20)), Listener())
    model.prefix_cache = None


def test_a_round_that_fails_ends_its_requests_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Scheduler, beside: Beside | None) -> None:
        raise ZeroDivisionError("no such thing")

    with monkeypatch.context() as patch:
        patch.setattr(Scheduler, "_write", fail)
        listener = Listener()
        engine.submit(ask(tokens(20)), listener)
        assert listener.over.wait(30)
        assert "no such thing" in str(listener.pieces[-1].done)
    again = Listener()
    engine.submit(ask(tokens(20)), again)
    assert len(again.result().token_ids) == 8
    assert engine.stats().reasons["error"] == 1


@pytest.mark.parametrize("place", ["open", "_next", "_said", "hear", "tell"])
def test_one_request_that_fails_ends_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    kept = getattr(Job, place)

    def fail(self: Job, *given: Any) -> Any:
        if len(self.ask.ids) == 33:
            raise ZeroDivisionError("in the midst of it")
        return kept(self, *given)

    monkeypatch.setattr(Job, place, fail)
    bad, good = Listener(), Listener()
    engine.submit(ask(tokens(20)), good)
    engine.submit(ask(tokens(33)), bad)
    assert len(good.result().token_ids) == 8
    assert bad.over.wait(30) and "in the midst of it" in str(bad.pieces[-1].done)


def test_a_listener_that_raises_has_hung_up(engine: Engine) -> None:
    def raising(piece: Piece) -> None:
        raise ZeroDivisionError("not listening")

    engine.submit(ask(tokens(20), new=1500), raising)
    good = Listener()
    engine.submit(ask(tokens(21)), good)
    assert len(good.result().token_ids) == 8
    for _ in range(300):
        if engine.stats().reasons.get("cancelled"):
            break
        time.sleep(0.05)
    assert engine.stats().reasons["cancelled"] == 1


def test_entries_of_texts_that_are_over_are_gone_while_tickets_are_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One whole, one cancelled, one whose listener raises: no cycle keeps them, and no thread."""
    held: list[weakref.ref[Any]] = []
    opened = Job.open

    def noted(self: Job) -> None:
        opened(self)
        assert self.request is not None
        held.append(weakref.ref(self.request.sequence))

    def raising(piece: Piece) -> None:
        raise ZeroDivisionError("not listening")

    monkeypatch.setattr(Job, "open", noted)
    # What collects log records keeps the frames of their errors.
    monkeypatch.setattr(module.LOG, "exception", lambda message: None)
    talking = chat_model()
    engine = Engine(talking, cache_bytes="64MiB", kv_bytes="256MiB")
    ids = talking.encode("Ada signed the contract.")
    gc.collect()
    gc.disable()
    try:
        listeners = [Listener(), Listener()]
        tickets = [engine.submit(ask(ids, new=30), each) for each in (*listeners, raising)]
        tickets[1].cancel()
        for listener in listeners:
            listener.result()
        for _ in range(200):
            if len(held) >= 2 and not any(each() for each in held):
                break
            time.sleep(0.02)
        assert len(held) >= 2 and not any(each() for each in held)
        tickets[0].cancel()
    finally:
        gc.enable()
        engine.close()


def test_budgets_come_of_the_memory_of_the_models_device(
    model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_for_entries", {model.adapted.device: 5000}.__getitem__)
    monkeypatch.setattr(model, "prefix_cache", None)
    engine = Engine(model)
    stats = engine.stats()
    engine.close()
    assert (stats.kv_capacity, stats.cache_capacity) == (2500, 500)
