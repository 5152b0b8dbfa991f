"""Replies: the same here and behind a server, alone and together, and one that is lost loses no
other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

import lengthwise
from lengthwise.api.model import Model
from lengthwise.api.server_errors import ServerError
from lengthwise.api.session import Session
from lengthwise.errors import ConstraintError, NotFinite, OutOfMemory, Refused
from lengthwise.evaluation.runs import replies as module
from lengthwise.evaluation.runs.replies import replies_of
from lengthwise.evaluation.tasks.benchmark import Sample
from lengthwise.testing.prompting import letters
from tests.evaluation.tasks.generated.generated_cases import one
from tests.remote_server import Reply, Scripted, says, status

TEXT = "a text of some letters. " * 8
SAMPLES = [Sample(TEXT, f"what is {n}?", ("x",), 4) for n in range(3)]
served = pytest.mark.usefixtures("letters_counted")


@contextmanager
def serving(*replies: Reply) -> Iterator[tuple[Any, Scripted]]:
    pytest.importorskip("openai")
    server = Scripted(*replies)
    try:
        yield lengthwise.connect(server.url, retries=0), server
    finally:
        server.close()


@served
@pytest.mark.parametrize("name", [
    "copy", "icll/writing", "infinite/code_run", "infinite/kv_retrieval", "infinite/math_calc",
    "infinite/math_find", "infinite/number_string", "kv", "passkey", "procedures/path_traversal",
    "procedures/tom_tracking", "ruler/fwe", "ruler/vt", "threads/branched", "threads/conditional",
    "threads/forward", "threads/multi", "threads/multi_threads", "threads/single",
])  # fmt: skip
def test_a_server_s_right_reply_is_right_with_its_beginning_and_without(name: str) -> None:
    task, sample = one(name, 2000)
    rest = ", ".join(sample.references)
    rest = rest if rest[:1] in "\n " else f" {rest}"
    assert next(iter(task.score(rest, sample).values())) == 1
    said = [f"{sample.begin}{rest}", f"\n{sample.begin.replace(' ', '  ')}{rest}", rest.lstrip()]
    if name == "infinite/math_calc":
        said.append(f"{sample.begin.split()[-1]}{rest}")
    with serving(*map(says, said)) as (model, server):
        found = list(replies_of(model, "full").of([sample] * len(said)))
    for reply in found:
        assert next(iter(task.score(reply.said, sample).values())) == 1
        # As it is shown, behind the beginning. (A string of symbols may have those again.)
        assert sample.begin not in reply.said or name == "icll/writing"
    room = sample.most + model.count(sample.begin)
    assert [each["max_tokens"] for each in server.asked] == [room] * len(said)


@served
def test_a_server_s_wrong_reply_stays_wrong() -> None:
    for name, said in (("infinite/math_calc", "1000, {}"), ("copy", "and {}"), ("kv", "none")):
        task, sample = one(name, 2000)
        with serving(says(said.format(sample.references[0]))) as (model, _):
            (reply,) = replies_of(model, "full").of([sample])
        assert next(iter(task.score(reply.said, sample).values())) == 0


@served
@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_prompt_that_a_server_refuses_is_one_sample_s(code: int) -> None:
    with serving(says("x"), status(code, "too long"), says("x")) as (model, _):
        first, lost, last = replies_of(model, "full").of(SAMPLES)
    assert (first.said, last.said) == ("x", "x") and first.refused is None is last.refused
    assert "too long" in str(lost.refused) and lost.said == ""


@served
@pytest.mark.parametrize("code", [401, 404, 503])
def test_a_server_that_serves_nobody_ends_a_run(code: int) -> None:
    with serving(says("x"), status(code)) as (model, _):
        found = replies_of(model, "full").of(SAMPLES)
        assert next(found).said == "x"
        with pytest.raises(ServerError, match=str(code)):
            next(found)


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


FULL = (RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError())


@pytest.mark.parametrize("error", FULL)
@pytest.mark.parametrize("of, name", [(Model, "read"), (Session, "ask"), (module, "_chosen")])
def test_memory_that_runs_out_loses_the_samples_it_was_for(
    of: Any, name: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = replies_of(letters(), "full")
    asked = [replace(each, context=f"{n}{TEXT}") for n, each in enumerate(SAMPLES)]
    monkeypatch.setattr(of, name, failing(error))
    found = list(replies.of(asked if of is module else SAMPLES))
    assert len(found) == 3 and all("out of memory on cpu" in str(each.refused) for each in found)
    monkeypatch.undo()
    assert [each.refused for each in replies.of(SAMPLES)] == [None] * 3
    monkeypatch.setattr(of, name, failing(RuntimeError("it is broken")))
    with pytest.raises(RuntimeError, match="it is broken"):
        list(replies.of(asked if of is module else SAMPLES))


@pytest.mark.parametrize("error", [
    NotFinite(3), OutOfMemory(9, 9, "cpu", "full"), ConstraintError("nothing may follow"),
])  # fmt: skip
def test_what_loses_one_request_loses_one_sample(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "generate", failing(error))
    (found,) = replies_of(letters(), "full").of(SAMPLES[:1])
    assert found.refused == str(error)


@pytest.mark.parametrize("recipe", ["sirllm(budget=50%)", "sirllm(budget=60)"])
def test_a_recipe_answers_alone_and_together(recipe: str) -> None:
    replies = replies_of(letters(), recipe)
    together = list(replies.of(SAMPLES))
    alone = [reply for each in SAMPLES for reply in replies.of([each])]
    assert [each.refused for each in together] == [None] * 3
    assert [each.said for each in together] == [each.said for each in alone]


def test_what_is_refused_together_and_alone_is_refused_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("read", "generate"):
        monkeypatch.setattr(Model, name, failing(Refused(f"no {name}", "do without")))
    found = list(replies_of(letters(), "full").of(SAMPLES))
    assert [each.refused for each in found] == ["no generate; do without"] * 3
