"""Rounds in which a long prompt is read beside those who write."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import lengthwise
from lengthwise.api.prefixes import prefix_cache_of
from lengthwise.engine import loop
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.serving.job import Job
from lengthwise.serving.pace import ALONE, LEAST, Pace
from lengthwise.serving.scheduler import Scheduler
from lengthwise.testing.tiny import tiny_model, tokens
from tests.chat_models import chat_model
from tests.serving.asking import Listener, ask, set_pace


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(
        tiny_model("llama", initializer_range=0.15, max_position_embeddings=2048)
    )


@pytest.fixture(scope="module")
def through_modules() -> lengthwise.Model:
    """A model whose forward cannot rest between layers."""
    tiny = tiny_model("gemma2", initializer_range=0.15, max_position_embeddings=2048)
    return lengthwise.wrap(tiny)


class Reading:
    """One that writes and, beside it, one whose prompt of 1,500 tokens is read."""

    def __init__(self, model: lengthwise.Model, recipe: str) -> None:
        self.model, self.recipe = model, recipe
        self.scheduler = Scheduler(model, 1 << 30)
        self.writer, self.heard = self._job(tokens(10), 120)
        self.scheduler.step(), self.scheduler.step()
        self.reader, self.answer = self._job(tokens(1500), 4)
        set_pace(self.scheduler.pace, 0.01, 0.0005)

    def _job(self, ids: list[int], new: int) -> tuple[Job, Listener]:
        listener = Listener()
        asked = ask(ids, self.recipe, new=new)
        job = Job(self.model, self.model.plan(self.recipe), asked, listener)
        self.scheduler.add(job)
        return job, listener

    def require_right(self) -> None:
        while not (self.answer.over.is_set() and self.heard.over.is_set()):
            self.scheduler.step()
        for listener, ids, new in ((self.answer, tokens(1500), 4), (self.heard, tokens(10), 120)):
            right = self.model.generate(ids, recipe=self.recipe, max_new_tokens=new, stop_ids=[])
            assert listener.result().token_ids == right.token_ids

    def require_right_of_reader(self) -> None:
        while not self.answer.over.is_set():
            self.scheduler.step()
        right = self.model.generate(tokens(1500), max_new_tokens=4, stop_ids=[])
        assert self.answer.result().token_ids == right.token_ids


@pytest.mark.parametrize("recipe", ["full", "lookup"])
@pytest.mark.parametrize("failing", [False, True])
def test_a_long_prompt_is_read_in_the_steps_of_those_who_write(
    through_modules: lengthwise.Model, recipe: str, failing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a step cannot take it up, it is read after the step, and nobody notices."""
    reading, rows, extend = Reading(through_modules, recipe), [], loop.extend
    before = len(reading.heard.pieces)

    def counted(items: Any, *given: Any, **named: Any) -> Any:
        rows.append([len(new) for _, new, _ in items])
        if failing and len(items) > 1:
            raise RuntimeError("no room for so many")
        return extend(items, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "extend", counted)
        while reading.reader.left:
            reading.scheduler.step()
    assert any(len(each) == 2 and each[1] >= LEAST for each in rows)
    assert not failing or any(len(each) == 1 and each[0] >= LEAST for each in rows)
    assert len(reading.heard.pieces) - before >= 3 or reading.heard.over.is_set()
    reading.require_right()


@pytest.mark.parametrize("recipe", ["full", "lookup", "streaming", "h2o(budget=32)"])
def test_a_long_prompt_is_read_a_few_layers_at_a_time(
    model: lengthwise.Model, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each chunk a layer, a step, a layer, where a round has room for no more."""
    reading = Reading(model, recipe)
    before, under_way = len(reading.heard.pieces), 0
    with monkeypatch.context() as patch:
        patch.setattr(Pace, "room", 1e-9)
        patch.setattr(Pace, "slice", lambda *_: 200)
        while reading.reader.left:
            reading.scheduler.step()
            under_way += reading.reader.slices is not None
    assert under_way >= 7
    assert len(reading.heard.pieces) - before >= 7 or reading.heard.over.is_set()
    reading.require_right()


def test_a_chunk_under_way_is_read_to_its_end_or_left(
    model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody writes any more, and where nobody waits any more."""
    monkeypatch.setattr(Pace, "room", 1e-9)
    reading = Reading(model, "full")
    reading.scheduler.step()
    assert reading.reader.slices is not None
    reading.writer.cancelled = True
    reading.scheduler.step(), reading.scheduler.step()
    assert reading.reader.slices is None
    reading.require_right_of_reader()
    again = Reading(model, "full")
    again.scheduler.step()
    assert again.reader.slices is not None
    again.reader.cancelled = True
    again.scheduler.step()
    assert again.answer.result().metrics.finish_reason == "cancelled"
    assert again.reader.slices is None


def test_a_step_alone_is_timed_now_and_then(through_modules: lengthwise.Model) -> None:
    model = through_modules
    scheduler = Scheduler(model, 1 << 30)
    writer = Job(model, model.plan("full"), ask(tokens(10), new=400), Listener())
    scheduler.add(writer)
    scheduler.step(), scheduler.step()
    scheduler.add(Job(model, model.plan("full"), ask(tokens(1900), new=1), Listener()))
    set_pace(scheduler.pace, 10.0, 1.0)
    for _ in range(3 * ALONE):
        scheduler.step()
    assert scheduler.pace.step_s < 10.0


def test_one_for_which_memory_ran_out_is_read_no_further(
    model: lengthwise.Model, through_modules: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Job._next
    for each in (model, through_modules):
        reading = Reading(each, "full")

        def fail(self: Job, tokens: int, of: Job = reading.reader) -> Any:
            if self is of:
                raise MemoryError
            return kept(self, tokens)

        with monkeypatch.context() as patch:
            patch.setattr(Job, "_next", fail)
            reading.scheduler.step(), reading.scheduler.step()
        assert "OutOfMemory" in type(reading.answer.result().failed).__name__
        while not reading.heard.over.is_set():
            reading.scheduler.step()
        assert len(reading.heard.result().token_ids) == 120


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is gone under it was held by nobody, cycles included."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("end", ["whole", "cancelled", "failed", "cancelled while read"])
@pytest.mark.parametrize("recipe", [
    "full", "lookup + kivi(residual=8)", "snapkv(budget=40, window=8)", "streaming", "recycling",
    "infllm(window=32, block=8, budget=120)", "beam(width=2)",
])  # fmt: skip
def test_entries_of_a_text_that_is_over_are_gone_at_once(
    recipe: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever still holds the job, the listener, or the error."""
    talking = chat_model()
    talking.prefix_cache = prefix_cache_of(talking.adapted, "64MiB")
    scheduler, listener = Scheduler(talking, 1 << 30), Listener()
    ids = talking.encode("Ada signed the contract. " * 9)
    job = Job(talking, talking.plan(recipe), ask(ids, recipe, new=12), listener)
    scheduler.add(job)
    if end == "cancelled while read":
        monkeypatch.setattr(Job, "chunk", 64)
        scheduler.step()
        assert job.left
    else:
        scheduler.step()
    assert job.request is not None
    held = [weakref.ref(each) for each in job.request.sequences]
    held += [weakref.ref(group.near) for _, group in job.request.sequence.groups()]
    if end.startswith("cancelled"):
        job.cancelled = True
    if end == "failed":

        def fail(self: Job, new: list[int]) -> None:
            raise ZeroDivisionError("in the midst of it")

        monkeypatch.setattr(Job, "hear", fail)
    while not listener.over.is_set():
        scheduler.step()
    assert isinstance(listener.pieces[-1].done, LengthwiseError) == (end == "failed")
    assert scheduler._reserved == 0 and not any(each() for each in held)
    assert not any(node.users for node in talking.prefix_cache._tree.nodes())  # type: ignore[union-attr]


def test_a_prompt_is_looked_up_once(
    through_modules: lengthwise.Model, model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One keeps nothing, for it has windows; of the other the second prompt begins as the first.
    for each, hits in ((through_modules, 0), (model, 1)):
        monkeypatch.setattr(each, "prefix_cache", prefix_cache_of(each.adapted, "64MiB"))
        reading = Reading(each, "full")
        while not reading.answer.over.is_set():
            reading.scheduler.step()
        stats = reading.scheduler.stats()
        assert (stats.cache_queries, stats.cache_hits) == (2, hits)


@pytest.mark.parametrize(("recipe", "together"), [
    ("full", 1), ("streaming(window=64)", 3), ("snapkv(budget=40, window=8)", 3),
])  # fmt: skip
def test_as_many_are_let_in_as_what_their_recipe_keeps_has_room(
    model: lengthwise.Model, recipe: str, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for one and a half, stored plain: of those whose prompt is read what is left counts."""
    # Whole chunks, so that no clock decides who is still there when the last one comes.
    monkeypatch.setattr(Pace, "chunk", lambda self, most: most)
    monkeypatch.setattr(Pace, "slice", lambda self, most, layers: most)
    scheduler = Scheduler(model, model.adapted.bytes_per_token * 900)
    listeners = [Listener() for _ in range(3)]
    for number, listener in enumerate(listeners):
        asked = ask(tokens(500 + number), recipe, new=60)
        scheduler.add(Job(model, model.plan(recipe), asked, listener))
    most = 0
    while not all(listener.over.is_set() for listener in listeners):
        scheduler.step()
        most = max(most, len(scheduler.writing))
        assert scheduler._reserved <= scheduler.kv_bytes
    assert most == together
    for number, listener in enumerate(listeners):
        right = model.generate(tokens(500 + number), recipe, max_new_tokens=60, stop_ids=[])
        assert listener.result().token_ids == right.token_ids


def test_a_window_is_let_in_however_long_the_prompt(model: lengthwise.Model) -> None:
    scheduler = Scheduler(model, model.adapted.bytes_per_token * 200)
    recipe, ids, listener = "streaming(window=64)", tokens(1000), Listener()
    with pytest.raises(Refused, match="kv_bytes"):
        scheduler.require_room(Job(model, model.plan("full"), ask(ids, new=9), listener))
    job = Job(model, model.plan(recipe), ask(ids, recipe, new=9), listener)
    scheduler.require_room(job)
    scheduler.add(job)
    while not listener.over.is_set():
        scheduler.step()
    right = model.generate(ids, recipe, max_new_tokens=9, stop_ids=[])
    assert listener.result().token_ids == right.token_ids
