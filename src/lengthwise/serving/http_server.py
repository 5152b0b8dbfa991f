"""uvicorn, with limits on how long a connection may keep it waiting."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from lengthwise.errors import LengthwiseError
from lengthwise.serving.errors import ApiError

# Bytes of the head of a request.
MOST_HEAD = 64 * 2**10
MOST_CONNECTIONS = 512
HEAD_S = 20.0
WRITE_S = 30.0
IDLE_S = 60
LINGER_S = 1.0
HEAD_TOO_LARGE = ApiError(
    431, "head_too_large", f"the head of the request has more than {MOST_HEAD:,} bytes"
)
INVALID_HTTP = ApiError(400, "invalid_http", "this is no valid request of HTTP/1.1")


class _Timer:
    """Something that happens after a while, unless it is stopped; started again, it runs on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop, self._seconds = loop, seconds
        self._handle: asyncio.TimerHandle | None = None

    def start(self, what: Callable[[], None]) -> None:
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, self._happen, what)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None

    def _happen(self, what: Callable[[], None]) -> None:
        self._handle = None
        what()


class Connection(H11Protocol):
    """A connection that ends where its client sends no whole head, or takes nothing, for long.

    head_s, write_s: seconds that these may take.
    """

    head_s, write_s = HEAD_S, WRITE_S

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._refused = False
        self._head = _Timer(self.loop, self.head_s)
        self._write = _Timer(self.loop, self.write_s)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._head.stop()
        self._write.stop()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        self._await_head()

    def _await_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._head.stop()
        else:
            self._head.start(self.transport.abort)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # A client that takes the end of an answer never would hold a connection that is closing.
        if self.transport.get_write_buffer_size():
            self._write.start(self._abort_unwritten)

    def _abort_unwritten(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write.start(self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write.stop()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request of HTTP, in the shape of all other errors."""
        flood = len(self.conn.trailing_data[0]) > MOST_HEAD
        error, reason = INVALID_HTTP, b"Bad Request"
        if flood:
            error, reason = HEAD_TOO_LARGE, b"Request Header Fields Too Large"
        if self.cycle is None or self.cycle.response_complete:
            body = error.body()
            self.transport.write(
                b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                b"Connection: close\r\n\r\n%b" % (error.status, reason, len(body), body)
            )
        # Closed at once, with more on its way, it would be reset before the answer is read.
        self._refused = True
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)


class Server(uvicorn.Server):
    """A server that finishes what runs when it is told to end, and then ends quietly.

    ready: called once it listens. closing: called when the end begins, in a thread of its own; the
    server waits for it.
    """

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None], closing: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._ready, self._closing = ready, closing

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        closed = asyncio.create_task(asyncio.to_thread(self._closing))
        await super().shutdown(sockets)
        await closed
        # uvicorn would raise the signal again, as if it had not been obeyed.
        self._captured_signals.clear()


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket at an address, which is refused before a model is loaded.

    Args:
        host: a name or an address.
        port: 0 for any that is free.

    Raises:
        LengthwiseError: where there is no such address, or it is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise LengthwiseError(f"--host {host!r}: there is no such address ({error})") from None
    try:
        if sys.platform != "win32":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        found.close()
        raise LengthwiseError(
            f"cannot listen at {host} port {port} ({error.strerror or error}); give another --port"
        ) from None
    return found


def serve(
    app: ASGIApp,
    listening: socket.socket,
    ready: Callable[[], None],
    closing: Callable[[], None],
    drain_s: float,
) -> None:
    """Serves until a signal ends it.

    Args:
        app: what answers.
        listening: a socket that is bound.
        ready: see `Server`.
        closing: see `Server`.
        drain_s: seconds in which running answers may finish once the end has begun.
    """
    for name in ("uvicorn.error", "lengthwise.serving"):
        log = logging.getLogger(name)
        log.setLevel(logging.ERROR)
        log.addHandler(logging.StreamHandler())
    config = uvicorn.Config(
        app, http=Connection, ws="none", lifespan="off", loop="asyncio", log_config=None,
        access_log=False, server_header=False, timeout_keep_alive=IDLE_S,
        h11_max_incomplete_event_size=MOST_HEAD,
        timeout_graceful_shutdown=max(1, round(drain_s) + 2),
    )  # fmt: skip
    Server(config, ready, closing).run([listening])
