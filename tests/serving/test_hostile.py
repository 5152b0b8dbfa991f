"""Callers that send too much, too little, too slowly, or leave: one error, and others unharmed."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import lengthwise
from lengthwise.serving import call, reading
from lengthwise.serving.engine import Piece
from lengthwise.serving.http_server import Connection
from tests.chat_models import chat_model
from tests.serving.double import Double, Ticket
from tests.serving.live import CHAT, HI, Live, eventually, live

LONG = {"messages": HI, "temperature": 0, "max_tokens": 400}


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return chat_model()


class Hasty(Connection):
    """A connection whose patience is short."""

    head_s, write_s = 0.5, 0.5


@pytest.fixture(scope="module")
def server(model: lengthwise.Model) -> Iterator[Live]:
    with live(model, connection=Hasty, most_body=20_000, body_s=0.5) as found:
        yield found


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LINGER_S", 0.5)


@pytest.fixture(autouse=True)
def _still_well(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever one caller did, the next one is answered."""
    yield
    if "server" in request.fixturenames:
        found = request.getfixturevalue("server")
        body = {"messages": HI, "max_tokens": 2, "temperature": 0}
        answer = httpx.post(found.url + CHAT, json=body, timeout=30)
        assert answer.status_code == 200


def connected(server: Live) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", server.port))
    found.settimeout(10)
    return found


def answer_of(given: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and body of what comes, up to the end of the connection."""
    data = b""
    while chunk := given.recv(65536):
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else {}


def head(path: str = CHAT, *more: str) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *more)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


# Bodies.


def test_a_large_body_is_refused_by_its_length_before_it_comes(server: Live) -> None:
    with connected(server) as given:
        given.sendall(head(CHAT, "Content-Length: 1000000000"))
        status, body = answer_of(given)
    assert status == 413
    assert body["error"]["code"] == "body_too_large" and "20,000 bytes" in body["error"]["message"]


def test_a_large_body_without_a_length_is_refused_while_it_comes(server: Live) -> None:
    with connected(server) as given:
        given.sendall(head(CHAT, "Transfer-Encoding: chunked"))
        sent = 0
        try:
            for _ in range(1000):
                given.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
                sent += 4096
                time.sleep(0.002)
        except OSError:
            pass
        status, body = answer_of(given)
    assert status == 413 and body["error"]["code"] == "body_too_large"
    assert sent < 4096 * 1000


def test_a_client_of_a_large_body_comes_to_read_the_answer(server: Live) -> None:
    answer = httpx.post(
        server.url + CHAT, content=b" " * 10**6, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413


def test_a_body_that_trickles_is_not_waited_for(server: Live) -> None:
    with connected(server) as given:
        given.sendall(head(CHAT, "Content-Length: 100") + b"{")
        status, body = answer_of(given)
    assert status == 408 and body["error"]["code"] == "body_too_slow"


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{", "invalid_json"), (b"\xff", "invalid_utf8"), (b"", "empty_body"),
     (b"[" * 10_000, "invalid_json"), (b'{"messages": "x"}', "invalid_value")],
)  # fmt: skip
def test_what_is_no_request_is_told_so(server: Live, body: bytes, code: str) -> None:
    answer = httpx.post(
        server.url + CHAT, content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_of_a_foreign_page_is_refused(server: Live, kind: str) -> None:
    answer = httpx.post(
        server.url + CHAT, content=json.dumps({"messages": HI}), headers={"Content-Type": kind}
    )
    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "no_json"
    assert "access-control-allow-origin" not in answer.headers


def test_a_lone_surrogate_is_told_and_harms_nobody(server: Live) -> None:
    for field in ("content", "model", "nope"):
        message = {"role": "user", "content": "\ud800" if field == "content" else "x"}
        body: dict[str, Any] = {"messages": [message]}
        if field != "content":
            body[field] = "\ud800"
        answer = httpx.post(
            server.url + CHAT, content=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        assert answer.status_code in (400, 404)
        assert answer.json()["error"]["message"]


# Heads and connections.


def test_a_flood_of_headers_is_refused(server: Live) -> None:
    with connected(server) as given:
        lines = [f"X-{number}: {'x' * 100}" for number in range(2000)]
        with contextlib.suppress(OSError):
            given.sendall(head(CHAT, *lines))
        status, body = answer_of(given)
    assert status == 431 and body["error"]["code"] == "head_too_large"


@pytest.mark.parametrize(
    "sent",
    [b"nonsense\r\n\r\n", b"GET /nothing HTTP/9.9\r\n\r\n",
     b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03",
     b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
     b"GET / HTTP/1.1\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http_is_told_so_or_left(server: Live, sent: bytes) -> None:
    with connected(server) as given:
        given.sendall(sent)
        given.shutdown(socket.SHUT_WR)
        try:
            status, _ = answer_of(given)
        except (OSError, IndexError):
            return
    assert status in (400, 404, 405, 415)


def test_a_head_that_never_ends_is_not_waited_for(server: Live) -> None:
    with connected(server) as given:
        given.sendall(b"POST / HTTP/1.1\r\n")
        begin = time.monotonic()
        try:
            while True:
                given.sendall(b"X-Slow: 1\r\n")
                time.sleep(0.05)
                assert time.monotonic() - begin < 5, "it waits for ever"
        except OSError:
            pass


def test_a_connection_that_says_nothing_is_ended(server: Live) -> None:
    with connected(server) as given, contextlib.suppress(ConnectionError):
        assert given.recv(1) == b""


# Those who leave, and those who do not read.


def cancelled(server: Live, number: int = -1) -> bool:
    ticket: Ticket = server.engine.tickets[number]
    return ticket.cancelled.is_set()


@pytest.mark.parametrize("stream", [True, False])
def test_who_hangs_up_has_cancelled_the_text(server: Live, stream: bool) -> None:
    before = len(server.engine.tickets)
    server.engine.held.clear()
    try:
        with connected(server) as given:
            body = json.dumps({**LONG, "stream": stream, "n": 2}).encode()
            given.sendall(head(CHAT, f"Content-Length: {len(body)}") + body)
            eventually(lambda: len(server.engine.tickets) == before + 2)
            assert not cancelled(server)
        eventually(lambda: cancelled(server) and cancelled(server, -2))
    finally:
        server.engine.held.set()
    text = httpx.get(server.url + "/metrics").text
    assert f'outcome="cancelled",path="{CHAT}"' in text


def test_who_hangs_up_in_the_middle_of_a_stream_has_cancelled_it(server: Live) -> None:
    with httpx.stream("POST", server.url + CHAT, json={**LONG, "stream": True}) as answer:
        lines = answer.iter_lines()
        for _ in range(6):
            next(lines)
    eventually(lambda: cancelled(server))


class Flood(Double):
    """An engine that says more at once than a connection holds."""

    def _write(self, ticket: Ticket) -> None:
        for _ in range(200_000):
            if ticket.cancelled.is_set():
                return
            ticket.told(Piece("x" * 1000, [1], []))
            time.sleep(0.00002)


def test_who_never_reads_is_cancelled_and_cut_off(
    model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "MOST_WAITING", 100)
    with live(model, Flood(model), connection=Hasty) as server, connected(server) as given:
        body = json.dumps({**LONG, "stream": True}).encode()
        given.sendall(head(CHAT, f"Content-Length: {len(body)}") + body)
        eventually(lambda: server.engine.tickets and cancelled(server))
        # The other end has gone, whatever is still on its way.
        eventually(lambda: not server.server.server_state.connections)
        assert httpx.get(server.url + "/health").status_code == 200
        text = httpx.get(server.url + "/metrics").text
    assert "lengthwise_requests_total" in text
    assert 'outcome="slow_reader"' in text or 'outcome="cancelled"' in text
