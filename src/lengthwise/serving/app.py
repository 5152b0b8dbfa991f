"""The routes of a server: OpenAI's completions over an engine, what watches it, and a page."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from lengthwise._utils.version import __version__
from lengthwise.serving.answers import Answer, ChatAnswer
from lengthwise.serving.asks import Limits, asks_of, echoed, wanted_logprobs
from lengthwise.serving.call import Call
from lengthwise.serving.choosing import choices_of, with_fields
from lengthwise.serving.errors import ApiError, api_error, quoted
from lengthwise.serving.guard import Guard
from lengthwise.serving.metrics import CONTENT_TYPE, Metrics
from lengthwise.serving.naming import Names
from lengthwise.serving.protocol import ChatRequest, Common, CompletionRequest
from lengthwise.serving.reading import parse_json, read_as, read_body, require_json
from lengthwise.serving.responses import JSON, Completion, ErrorResponse, Stream, as_json

if TYPE_CHECKING:
    from lengthwise.api.model import Model
    from lengthwise.serving.engine import Engine

PAGE = Path(__file__).parent / "page"
CHAT, TEXT, MODELS = "/v1/chat/completions", "/v1/completions", "/v1/models"


@dataclass(frozen=True)
class Settings:
    """How a server is called and what it takes.

    names: of the model. limits: of a call. key, hosts: see `Guard`. most_body: bytes of a request.
    body_s: seconds until all of one has to be there.
    """

    names: Names
    limits: Limits = Limits()
    key: str | None = None
    hosts: Collection[str] | None = None
    most_body: int = 8 * 2**20
    body_s: float = 60.0


def build_app(model: Model, engine: Engine, settings: Settings) -> FastAPI:
    """The application, for any server of ASGI.

    Args:
        model: that encodes prompts; the engine's own.
        engine: that writes. Whoever ends the server closes it.
        settings: how it is called and what it takes.
    """
    # Its pages of documentation would load scripts from elsewhere.
    app = FastAPI(title="lengthwise", version=__version__, docs_url=None, redoc_url=None,
                  openapi_url=None)  # fmt: skip
    routes = _Routes(model, engine, settings)
    app.add_api_route(CHAT, routes.chat, methods=["POST"])
    app.add_api_route(TEXT, routes.text, methods=["POST"])
    app.add_api_route(MODELS, routes.models, methods=["GET"])
    app.add_api_route(MODELS + "/{name:path}", routes.one_model, methods=["GET"])
    app.add_api_route("/health", routes.health, methods=["GET", "HEAD"])
    app.add_api_route("/metrics", routes.metrics_text, methods=["GET"])
    app.add_api_route("/", _page, methods=["GET", "HEAD"], response_class=FileResponse)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.add_exception_handler(ApiError, routes.failed)
    app.add_exception_handler(HTTPException, routes.failed)
    app.add_exception_handler(ClientDisconnect, routes.failed)
    app.add_exception_handler(Exception, routes.failed)
    app.add_middleware(
        Guard, key=settings.key, hosts=settings.hosts, turned_away=routes.turned_away
    )
    return app


async def _page() -> FileResponse:
    return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})


class _Routes:
    """What is answered at every path."""

    def __init__(self, model: Model, engine: Engine, settings: Settings) -> None:
        self.model, self.engine, self.settings = model, engine, settings
        self.metrics = Metrics(engine.stats)
        self.began = int(time.time())

    async def chat(self, request: Request) -> Response:
        """Answers a chat."""
        return await self._complete(request, ChatRequest, ChatAnswer)

    async def text(self, request: Request) -> Response:
        """Goes on with one or several texts."""
        return await self._complete(request, CompletionRequest, Answer)

    async def _complete(
        self, request: Request, kind: type[Common], answering: type[Answer]
    ) -> Response:
        require_json(request)
        body = await read_body(request, self.settings.most_body, self.settings.body_s)
        # A body of megabytes takes a while, in which others are to be answered.
        asked = await run_in_threadpool(lambda: read_as(kind, parse_json(body)))
        chosen = self.settings.names.choose(asked.model, asked.recipe)
        choices = choices_of(asked)
        chosen = await run_in_threadpool(with_fields, asked, chosen, self.model)
        asks = await run_in_threadpool(asks_of, asked, chosen, self.model, self.settings.limits)
        texts = [ask for each in asks for ask in each]
        before = await run_in_threadpool(echoed, asked, asks, self.model)
        call = Call(self.engine, texts, self.metrics)
        await call.submit()
        logprobs = wanted_logprobs(asked) is not None
        answer = answering(
            self.model, chosen.name, chosen.recipe, before, len(asks), logprobs, choices
        )
        ended = self._ended(request.url.path)
        if asked.stream:
            return Stream(call, answer, ended, asked.wants_usage)
        return Completion(call, answer, ended)

    def _ended(self, path: str) -> Callable[[str], None]:
        return lambda outcome: self.metrics.ended(path, outcome)

    async def models(self) -> Response:
        """Lists what may be asked for: the names of the one model there is."""
        return self._json({"object": "list", "data": [self._model(n) for n in self._names()]})

    async def one_model(self, name: str) -> Response:
        """Tells of the model of a name, with or without a recipe."""
        return self._json(self._model(self.settings.names.choose(name, None).name))

    def _names(self) -> list[str]:
        return list(self.settings.names.known)

    def _model(self, name: str) -> dict[str, Any]:
        return {
            "id": name, "object": "model", "created": self.began, "owned_by": "lengthwise",
            "recipe": str(self.settings.names.choose(name, None).recipe),
            "trained_length": self.model.trained_length,
            "max_new_tokens": self.settings.limits.new_tokens,
        }  # fmt: skip

    async def health(self) -> Response:
        """Tells whether the engine is there, and how busy it is."""
        stats, alive = self.engine.stats(), self.engine.alive
        said = {"status": "ok" if alive else "ended"}
        return self._json(
            {**said, "running": stats.running, "waiting": stats.waiting}, 200 if alive else 503
        )

    async def metrics_text(self) -> Response:
        """Counters for Prometheus."""
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    def _json(self, content: Any, status: int = 200) -> Response:
        return Response(as_json(content), status, media_type=JSON)

    def turned_away(self, path: str, code: str) -> None:
        """Counts what got no further than the guard, or failed.

        Args:
            path: as it was asked for.
            code: of the error.
        """
        self.metrics.ended(path if path in (CHAT, TEXT, MODELS, "/metrics") else "other", code)

    async def failed(self, request: Request, error: Exception) -> Response:
        """Answers an error in the shape of OpenAI's.

        Args:
            request: that caused it.
            error: any.
        """
        if isinstance(error, ClientDisconnect):
            self.turned_away(request.url.path, "cancelled")
            return Response(status_code=400)
        if isinstance(error, HTTPException):
            error = _missing(request, error)
        found = api_error(error)
        self.turned_away(request.url.path, found.code)
        return ErrorResponse(found)


def _missing(request: Request, error: HTTPException) -> ApiError:
    """A path or method that there is not."""
    if error.status_code == 405:
        said = f"{request.method} is not answered at {quoted(request.url.path)}"
        return ApiError(405, "wrong_method", said, headers=error.headers)
    if error.status_code == 404:
        return ApiError(
            404, "unknown_path", f"there is nothing at {quoted(request.url.path)}; served are "
            f"{CHAT}, {TEXT}, {MODELS}, /health, /metrics and the page at /",
        )  # fmt: skip
    return ApiError(error.status_code, "refused", str(error.detail), headers=error.headers)
