"""Several replicas of a served model behind Ray Serve, on one machine or a cluster.

Each replica is a process with a model, an engine and the same application as a server of one. This
process reads requests, with the limits of `http_server`, and hands them to Ray's router. Where this
Ray has a router that knows prefixes, prompts that begin alike go to one replica, whose prefix cache
holds what they begin with.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from lengthwise._utils.messages import first_line
from lengthwise._utils.saying import say_once
from lengthwise.api.model import Model
from lengthwise.errors import LengthwiseError
from lengthwise.serving.app import Settings, build_app
from lengthwise.serving.engine import Engine
from lengthwise.serving.errors import ApiError
from lengthwise.serving.reading import read_body
from lengthwise.serving.responses import ErrorResponse

NAME = "lengthwise"
# Of a scope, what another process can be sent.
SENT = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string",
        "root_path", "headers", "client", "server")  # fmt: skip
# Messages of an answer that may wait for whoever takes them.
AHEAD = 64
# Ray's own; the public name imports only where vLLM or SGLang is installed.
ROUTERS = (
    "ray.serve.llm.request_router",
    "ray.llm._internal.serve.routing_policies.prefix_aware.prefix_aware_router",
)
ROUTER = "PrefixCacheAffinityRouter"


@dataclass(frozen=True)
class Call:
    """A request on its way to a replica. prompt: what Ray's router compares, never empty."""

    prompt: str
    scope: dict[str, Any]
    body: bytes


class Replica:
    """A model of its own, with an engine and the application."""

    def __init__(
        self, load: Callable[[], Model], settings: Settings, engine: Mapping[str, Any]
    ) -> None:
        """
        Args:
            load: makes the model.
            settings: of the application.
            engine: options of `Engine`.
        """
        model = load()
        self._engine = Engine(model, recipe=settings.names.recipe, **engine)
        self._app = build_app(model, self._engine, settings)

    async def __call__(self, call: Call) -> AsyncIterator[Message]:
        """The messages that the application answers a request with.

        Args:
            call: the request.
        """
        messages: asyncio.Queue[Message | None] = asyncio.Queue(AHEAD)
        gone, parts = asyncio.Event(), [call.body]

        async def receive() -> Message:
            if parts:
                return {"type": "http.request", "body": parts.pop(), "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def run() -> None:
            try:
                await self._app(dict(call.scope), receive, messages.put)
            finally:
                await messages.put(None)

        running = asyncio.create_task(run())
        try:
            while (message := await messages.get()) is not None:
                yield message
            await running
        finally:
            gone.set()
            running.cancel()

    def check_health(self) -> None:
        """Raises where the engine runs no more, so that Ray begins another replica."""
        if not self._engine.alive:
            raise RuntimeError("the engine of this replica runs no more")

    def __del__(self) -> None:
        with suppress(AttributeError):
            self._engine.close(0)


class Front:
    """The application of this process: every request goes to a replica."""

    def __init__(self, handle: Any, settings: Settings) -> None:
        """
        Args:
            handle: of the replicas, as `start` gives it.
            settings: how much of a request is read.
        """
        self._handle, self._settings = handle.options(stream=True), settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request.

        Args:
            scope: of ASGI.
            receive: of ASGI.
            send: of ASGI.
        """
        try:
            body = await read_body(
                Request(scope, receive), self._settings.most_body, self._settings.body_s
            )
        except ApiError as error:
            await ErrorResponse(error)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        sent = {name: scope[name] for name in SENT if name in scope}
        answer = self._handle.remote(Call(prompt_of(body), sent, body))
        left = asyncio.Event()
        # A client that leaves ends what a replica writes for it.
        leaving = asyncio.create_task(_left(receive, left, answer.cancel))
        begun = False
        try:
            async for message in answer:
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    leaving.cancel()
                await send(message)
                begun = True
        except Exception as error:
            if left.is_set():
                return
            if begun:
                raise
            said = f"a replica ended ({first_line(error)}); ask again"
            lost = ApiError(503, "replica_lost", said)
            await ErrorResponse(lost)(scope, receive, send)
        finally:
            leaving.cancel()


async def _left(receive: Receive, left: asyncio.Event, cancel: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    left.set()
    cancel()


def prompt_of(body: bytes) -> str:
    """What a request asks to be read, as text for Ray's router to compare.

    Args:
        body: of the request; what it lacks is said by a replica.
    """
    try:
        asked = json.loads(body)
        found = asked.get("messages", asked.get("prompt"))
    except (ValueError, AttributeError, RecursionError):
        found = None
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    return text or "-"


def router() -> str | None:
    """Where this Ray has a router that knows prefixes, as Ray names classes; None: nowhere."""
    import importlib

    for place in ROUTERS:
        with suppress(ImportError):
            if hasattr(importlib.import_module(place), ROUTER):
                return f"{place}.{ROUTER}"
    return None


def start(
    load: Callable[[], Model], settings: Settings, replicas: int, gpu: bool = False,
    **engine: Any,
) -> Any:  # fmt: skip
    """Starts replicas on the cluster at $RAY_ADDRESS, or on one that is started here.

    Args:
        load: makes the model, in every replica.
        settings: of the application.
        replicas: how many.
        gpu: whether each takes a GPU.
        **engine: options of `Engine`.

    Returns:
        A handle, for `Front`.

    Raises:
        LengthwiseError: where Ray or what its Serve needs is missing.
    """
    try:
        import ray
        from ray import serve
        from ray.serve.config import RequestRouterConfig
    except ImportError as error:
        raise LengthwiseError(
            f"--engine ray needs Ray Serve ({first_line(error)}): pip install 'lengthwise[ray]'; "
            "without it one replica serves"
        ) from error
    if not ray.is_initialized():
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    # Requests are read by this process, and not by Ray's proxy.
    serve.start(proxy_location="Disabled")
    options: dict[str, Any] = {}
    if (found := router()) is not None:
        config: Any = {"request_router_class": found}
        options["request_router_config"] = RequestRouterConfig(**config)
    else:
        say_once(
            f"Ray {ray.__version__} has no router that knows prefixes: a request goes to the less "
            "busy of two replicas"
        )
    deployment: Any = serve.deployment(
        Replica, name=NAME, num_replicas=replicas, max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0, "num_gpus": int(gpu)}, **options,
    )  # fmt: skip
    return serve.run(deployment.bind(load, settings, engine), name=NAME, route_prefix=None)


def stop() -> None:
    """Ends the replicas."""
    from ray import serve

    serve.delete(NAME)


__all__ = ["Call", "Front", "Replica", "prompt_of", "router", "start", "stop"]
