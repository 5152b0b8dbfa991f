"""A server that answers as it is told to: as OpenAI's do, busy, broken, or nonsense."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


class Scripted:
    """Replies to posts in the order of a list, the last one for ever. asked: the bodies that came.

    url: of its interface.
    """

    def __init__(self, *replies: Reply, models: dict[str, Any] | None = None) -> None:
        self.replies, self.asked = list(replies), list[dict[str, Any]]()
        listed = {"id": "parrot", "object": "model", "created": 0, "owned_by": "x"} | (models or {})
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the name that http.server calls
                send(self, 200, {"object": "list", "data": [listed]})

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(size))
                reply = owner.replies[min(len(owner.asked), len(owner.replies) - 1)]
                owner.asked.append(body)
                reply(self, body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Ends it."""
        self.server.shutdown()
        self.server.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, body: object, **headers: str) -> None:
    """A whole reply of JSON, or of text as it is."""
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def says(*pieces: str, usage: bool = True, end: bool = True) -> Reply:
    """A stream of pieces; without `end` it breaks off behind them."""

    def reply(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"content": each}, "finish_reason": None}]}
            for each in pieces
        ]
        if end:
            chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if usage:
            counts = {"prompt_tokens": 40, "completion_tokens": len(pieces), "total_tokens": 0}
            chunks.append({"choices": [], "usage": counts})
        shared = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "parrot"}
        for chunk in chunks:
            handler.wfile.write(f"data: {json.dumps(shared | chunk)}\n\n".encode())
        if end:
            handler.wfile.write(b"data: [DONE]\n\n")

    return reply


def status(code: int, said: str = "busy") -> Reply:
    """An error of OpenAI's kind, to be asked again at once."""
    body = {"error": {"message": said, "type": "error"}}
    return lambda handler, _: send(handler, code, body, retry_after_ms="1")


def nonsense(text: str) -> Reply:
    """A status that says all is well, and a text that is no answer."""
    return lambda handler, _: send(handler, 200, text)


def silence(seconds: float) -> Reply:
    """Nothing for a while, and then nothing."""

    def reply(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        threading.Event().wait(seconds)

    return reply
