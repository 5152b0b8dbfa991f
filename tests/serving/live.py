"""A server that runs in a thread of the test's own, over a real socket."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from lengthwise.recipes import parse
from lengthwise.serving.app import Settings, build_app
from lengthwise.serving.http_server import MOST_HEAD, Connection, Server, bound_socket
from lengthwise.serving.naming import Names
from tests.chat_models import chat_model
from tests.serving.double import Double

HI = [{"role": "user", "content": "hi"}]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
GREEDY = {"temperature": 0, "max_tokens": 6}


def eventually(holds: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@dataclass
class Live:
    """url: without a slash behind. port: of 127.0.0.1. engine: behind it. server: of uvicorn."""

    url: str
    port: int
    engine: Any
    server: Server


@contextmanager
def live(
    model: Any = None, engine: Any = None, connection: type[Connection] = Connection, **more: Any
) -> Iterator[Live]:
    """A server of a tiny model; `more` goes into its Settings."""
    model = chat_model() if model is None else model
    engine = Double(model) if engine is None else engine
    settings = Settings(**{"names": Names(["tiny"], parse("full")), **more})
    ready = threading.Event()
    with bound_socket("127.0.0.1", 0) as listening:
        config = uvicorn.Config(
            build_app(model, engine, settings), http=connection, ws="none", lifespan="off",
            log_config=None, access_log=False, h11_max_incomplete_event_size=MOST_HEAD,
            timeout_graceful_shutdown=10,
        )  # fmt: skip
        server = Server(config, ready.set, lambda: engine.close(5.0))
        thread = threading.Thread(
            target=lambda: asyncio.run(server.serve([listening])), daemon=True
        )  # fmt: skip
        thread.start()
        assert ready.wait(10)
        port = listening.getsockname()[1]
        try:
            yield Live(f"http://127.0.0.1:{port}", port, engine, server)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def events(client: httpx.Client, path: str = CHAT, **fields: Any) -> list[dict[str, Any]]:
    """Chunks of a stream, whose frame is checked."""
    asked = {"messages": HI} if path == CHAT else {}
    with client.stream("POST", path, json={**asked, **GREEDY, "stream": True, **fields}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = answer.read().decode()
    parts = text.split("\n\n")
    assert parts.pop() == ""
    assert parts.pop() == "data: [DONE]"
    return [json.loads(part.removeprefix("data: ")) for part in parts]
