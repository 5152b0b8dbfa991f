"""Replicas behind Ray Serve answer as one server does; what begins alike goes to one of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message

import lengthwise
from lengthwise.recipes import parse
from lengthwise.serving import ray_serve
from lengthwise.serving.app import Settings
from lengthwise.serving.naming import Names
from lengthwise.serving.ray_serve import Front, Replica, prompt_of
from lengthwise.testing.tiny import tiny_model
from tests.tiny_tokenizers import byte_level

SETTINGS = Settings(Names(["tiny"], parse("full")))
ENGINE = {"cache_bytes": 1 << 22, "kv_bytes": 1 << 26, "queue": 16}
ASKED = {"model": "tiny", "prompt": "the quick brown fox", "max_tokens": 6, "temperature": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served")
    tokenizer = byte_level()
    tiny_model("llama", vocab_size=len(tokenizer)).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


class Handle:
    """One replica here, called as Ray's handle is."""

    def __init__(self, replica: Replica) -> None:
        self.replica, self.calls, self.cancelled = replica, [], 0  # type: ignore[var-annotated]

    def options(self, **given: Any) -> Handle:
        assert given == {"stream": True}
        return self

    def remote(self, call: Any) -> Any:
        self.calls.append(call)

        def cancel() -> None:
            self.cancelled += 1

        return Answer(self.replica(call), cancel)


class Answer:
    def __init__(self, messages: AsyncIterator[Message], cancel: Any) -> None:
        self._messages, self.cancel = messages, cancel

    def __aiter__(self) -> AsyncIterator[Message]:
        return self._messages


@pytest.fixture
def handle(folder: Path) -> Iterator[Handle]:
    replica = Replica(partial(lengthwise.load, str(folder)), SETTINGS, ENGINE)
    yield Handle(replica)
    replica._engine.close(5)


def test_a_replica_without_its_engine_is_not_healthy(handle: Handle) -> None:
    handle.replica.check_health()
    assert TestClient(handle.replica._app).get("/health").status_code == 200
    handle.replica._engine.close()
    with pytest.raises(RuntimeError, match="runs no more"):
        handle.replica.check_health()
    found = TestClient(handle.replica._app).get("/health")
    assert found.status_code == 503 and found.json()["status"] == "ended"


def test_answers_are_those_of_the_application(handle: Handle) -> None:
    front = TestClient(Front(handle, SETTINGS))
    whole = TestClient(handle.replica._app)
    ours, theirs = (each.post("/v1/completions", json=ASKED) for each in (front, whole))
    assert ours.status_code == theirs.status_code == 200
    text = ours.json()["choices"][0]["text"]
    assert text and text == theirs.json()["choices"][0]["text"]
    assert handle.calls[0].prompt == ASKED["prompt"]
    asked = {**ASKED, "stream": True}
    with front.stream("POST", "/v1/completions", json=asked) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    texts = [json.loads(line[6:])["choices"] for line in lines[:-1]]
    assert "".join(c[0]["text"] for c in texts if c) == text
    assert front.get("/health").json()["status"] == "ok"
    assert front.post("/v1/completions", json={**ASKED, "model": "other"}).status_code == 404


def test_what_is_too_large_reaches_no_replica(handle: Handle) -> None:
    small = Settings(SETTINGS.names, most_body=100)
    answer = TestClient(Front(handle, small)).post("/v1/completions", content=b"x" * 200)
    assert answer.status_code == 413 and not handle.calls


def test_a_replica_that_ends_is_an_error_of_one_line(handle: Handle) -> None:
    async def broken(call: Any) -> AsyncIterator[Message]:
        raise RuntimeError("it died")
        yield {}

    handle.replica = broken  # type: ignore[assignment]
    answer = TestClient(Front(handle, SETTINGS)).post("/v1/completions", json=ASKED)
    assert answer.status_code == 503 and "it died" in answer.json()["error"]["message"]


def test_a_client_that_leaves_ends_what_is_written_for_it(handle: Handle) -> None:
    async def endless(call: Any) -> AsyncIterator[Message]:
        yield {"type": "http.response.start", "status": 200, "headers": []}
        while not handle.cancelled:
            await asyncio.sleep(0.01)
        raise RuntimeError("cancelled, as Ray has it")

    handle.replica = endless  # type: ignore[assignment]
    messages = [{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    asyncio.run(asyncio.wait_for(Front(handle, SETTINGS)(scope, receive, send), 10))
    assert handle.cancelled == 1


@pytest.mark.parametrize(("body", "prompt"), [
    (b'{"prompt": "a b"}', "a b"), (b'{"prompt": [1, 2]}', "[1, 2]"), (b"", "null"),
    (b'{"messages": [{"role": "user", "content": "x"}]}', '[{"role": "user", "content": "x"}]'),
    (b"[1]", "null"), (b"\xff", "null"), (b'{"prompt": ""}', "-"), (b"[" * 10**5, "null"),
])  # fmt: skip
def test_what_is_compared_is_never_empty(body: bytes, prompt: str) -> None:
    assert prompt_of(body) == prompt


def test_two_replicas_of_ray_answer_and_share_by_prefix(folder: Path) -> None:
    pytest.importorskip("ray.serve")
    import ray

    load = partial(lengthwise.load, str(folder))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        handle = ray_serve.start(load, SETTINGS, 2, **ENGINE)
        front = TestClient(Front(handle, SETTINGS))
        with lengthwise.load(str(folder)) as model:
            right = model.generate(model.encode(ASKED["prompt"]), max_new_tokens=6).text
        texts, reused = [], []
        for word in ("one", "two", "three", "four", "five", "six"):
            prompt = f"{ASKED['prompt'] * 20} {word}"
            found = front.post("/v1/completions", json={**ASKED, "prompt": prompt}).json()
            reused.append(found["usage"]["prompt_tokens_details"]["cached_tokens"])
        texts = [
            front.post("/v1/completions", json=ASKED).json()["choices"][0]["text"] for _ in range(4)
        ]
        assert set(texts) == {right}
        # All of them but the first found what they begin with, for they went to one replica.
        assert reused[0] == 0 and (ray_serve.router() is None or min(reused[1:]) > 300)
        ray_serve.stop()
    finally:
        ray.shutdown()
