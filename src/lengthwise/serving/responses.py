"""Answers as they go over the wire: whole JSON, server-sent events, and errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lengthwise.serving.answers import Answer
from lengthwise.serving.call import Call, gone
from lengthwise.serving.errors import ApiError, api_error
from lengthwise.serving.reading import drain, is_unread

Ended = Callable[[str], None]
JSON = "application/json"


def as_json(content: Any) -> bytes:
    """JSON in UTF-8, with halves of characters written as escapes of it.

    Args:
        content: what is written.
    """
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, separators=(",", ":")).encode()


class ErrorResponse(Response):
    """An error of ours. What its client is still sending is taken for a moment, so that it comes
    to read the answer."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.body(), error.status, error.headers, JSON)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_unread(scope):
            await super().__call__(scope, receive, send)
            return
        self.headers["connection"] = "close"
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await drain(Request(scope, receive))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Completion(Response):
    """An answer that is written while its client is watched: who hangs up has cancelled it.

    ended: told in one word what became of the call.
    """

    def __init__(self, call: Call, answer: Answer, ended: Ended) -> None:
        super().__init__(None, media_type=JSON)
        self.call, self.answer, self.ended = call, answer, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        write = asyncio.create_task(self._write(scope, receive, send))
        watch = asyncio.create_task(gone(receive))
        outcome = "cancelled"
        try:
            await asyncio.wait({write, watch}, return_when=asyncio.FIRST_COMPLETED)
            if write.done():
                outcome = "failed"
                outcome = write.result()
        finally:
            self.call.cancel()
            for task in (write, watch):
                task.cancel()
            self.ended(outcome)
            await asyncio.gather(write, watch, return_exceptions=True)

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> str:
        """Answers; gives the outcome in a word."""
        try:
            async for found in self.call.pieces():
                if found is not None:
                    number, piece = found
                    self.answer.texts[number].add(piece)
            content = await asyncio.to_thread(lambda: as_json(self.answer.body()))
        except ApiError as error:
            await ErrorResponse(error)(scope, receive, send)
            return error.code
        await Response(content, media_type=JSON)(scope, receive, send)
        return _outcome(self.answer)


def _outcome(answer: Answer) -> str:
    return "deadline" if answer.late else "ok"


class Stream(Completion):
    """The same as server-sent events, a chunk at a time; usage: with a last one that counts."""

    def __init__(self, call: Call, answer: Answer, ended: Ended, usage: bool) -> None:
        super().__init__(call, answer, ended)
        self.usage = usage

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> str:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async for event in self._events():
                await send({"type": "http.response.body", "body": event, "more_body": True})
            outcome = _outcome(self.answer)
        except ApiError as error:
            outcome = error.code
            event = b"data: " + error.body() + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        return outcome

    async def _events(self) -> AsyncIterator[bytes]:
        try:
            for chunk in self.answer.opening():
                yield self._event(chunk)
            async for found in self.call.pieces():
                if found is None:
                    yield b": still here\n\n"
                    continue
                for chunk in self.answer.chunks(*found):
                    yield self._event(chunk)
            if self.usage:
                yield b"data: " + as_json(self.answer.usage_chunk()) + b"\n\n"
        except ApiError:
            raise
        except Exception as error:
            raise api_error(error) from error

    def _event(self, chunk: dict[str, Any]) -> bytes:
        # As OpenAI's: where usage was asked for, every chunk but the last says that it has none.
        content = {**chunk, "usage": None} if self.usage else chunk
        return b"data: " + as_json(content) + b"\n\n"
