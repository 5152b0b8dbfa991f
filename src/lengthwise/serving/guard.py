"""What stands before every route: who may call, from where, and what every answer carries."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lengthwise.serving.errors import ApiError
from lengthwise.serving.responses import ErrorResponse

# A page of ours loads nothing from elsewhere, runs no script in it, and stands in no frame.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Calls at once, waiting ones included; more are told to come again.
MOST_CALLS = 256


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone.

    Args:
        host: that a server binds to.
    """
    return host in LOOPBACK or host.startswith("127.")


class Guard:
    """Checks the name of the host, the key and the number of calls.

    key: that calls of the API have to carry; None is none. hosts: names that a request may give for
    this machine, so that a foreign page cannot reach it under a name of its own; None is any.
    turned_away: told the path and the code of what got no further.
    """

    def __init__(
        self,
        app: ASGIApp,
        key: str | None,
        hosts: Collection[str] | None,
        turned_away: Callable[[str, str], None],
    ) -> None:
        self._app, self._turned_away = app, turned_away
        self._key = None if key is None else key.encode()
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"], *(each for each in HEADERS if each[0] not in given)
                ]  # fmt: skip
            await send(message)

        try:
            self._check(scope)
        except ApiError as error:
            self._turned_away(scope["path"], error.code)
            await ErrorResponse(error)(scope, receive, sent)
            return
        self._calls += 1
        try:
            await self._app(scope, receive, sent)
        finally:
            self._calls -= 1

    def _check(self, scope: Scope) -> None:
        """Raises ApiError for a call that goes no further."""
        headers = dict(scope["headers"])
        host = _host(headers.get(b"host", b"").decode("latin-1"))
        if self._hosts is not None and host not in self._hosts:
            raise ApiError(
                403, "unknown_host", f"this server is not known as {host!r}; start it with "
                "--allow-host, or call it by its address",
            )  # fmt: skip
        path = scope["path"]
        if self._key is not None and (path.startswith("/v1/") or path == "/metrics"):
            self._check_key(headers.get(b"authorization", b""))
        if path.startswith("/v1/") and self._calls >= MOST_CALLS:
            raise ApiError(
                503, "too_many_calls", f"{MOST_CALLS} calls are open; try again",
                headers={"Retry-After": "1"},
            )  # fmt: skip

    def _check_key(self, given: bytes) -> None:
        kind, _, key = given.partition(b" ")
        assert self._key is not None
        if kind.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._key):
            return
        said = "the key is wrong" if given else "a key is missing"
        raise ApiError(
            401, "invalid_api_key", f"{said}; send 'Authorization: Bearer KEY' with the key that "
            "the server was started with", headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip


def _host(given: str) -> str:
    """The name in a Host header, without its port."""
    name = given.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]
