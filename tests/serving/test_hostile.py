"""Callers that send too much, too little, too slowly, or leave: one error, and others unharmed."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.serving import call, guard, reading
from lengthwise.serving.asks import Limits
from lengthwise.serving.engine import Ask, Piece
from lengthwise.serving.http_server import Connection
from tests.chat_models import chat_model
from tests.serving.double import Double, Ticket
from tests.serving.live import Live, live

HI = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"
LONG = {"messages": HI, "temperature": 0, "max_tokens": 400}
KEY = "secret"


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


def eventually(holds: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


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
    [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03",
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


# Keys and hosts.


@pytest.fixture(scope="module")
def locked(model: lengthwise.Model) -> Iterator[Live]:
    with live(model, key=KEY, hosts=("127.0.0.1", "localhost")) as found:
        yield found


@pytest.mark.parametrize(
    ("sent", "told"),
    [(None, "missing"), ("Bearer wrong", "wrong"), ("Bearer", "wrong"), (KEY, "wrong"),
     (f"Basic {KEY}", "wrong"), (f"Bearer {KEY}x", "wrong"), ("Bearer \u00ff", "wrong")],
)  # fmt: skip
def test_a_wrong_key_is_refused(locked: Live, sent: str | None, told: str) -> None:
    headers = {} if sent is None else {"Authorization": sent.encode("latin-1")}
    for method, path in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/metrics")):
        answer = httpx.request(method, locked.url + path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        error = answer.json()["error"]
        assert error["code"] == "invalid_api_key" and told in error["message"]
        assert KEY not in answer.text


def test_the_right_key_opens_and_the_page_and_health_need_none(locked: Live) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    assert httpx.get(locked.url + "/v1/models", headers=headers).status_code == 200
    assert httpx.get(locked.url + "/health").status_code == 200
    assert httpx.get(locked.url + "/").status_code == 200


def test_a_foreign_name_for_this_machine_is_refused(locked: Live) -> None:
    for host, status in (
        ("evil.example", 403), ("localhost:99", 200), ("LOCALHOST", 200), ("127.0.0.1", 200),
        ("", 403), ("localhost.evil.example", 403),
    ):  # fmt: skip
        answer = httpx.get(locked.url + "/health", headers={"Host": host})
        assert answer.status_code == status, host


def test_every_answer_carries_what_keeps_a_page_safe(locked: Live) -> None:
    for path in ("/", "/health", "/v1/models", "/nope"):
        headers = httpx.get(locked.url + path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


# An engine that takes no more, or fails.


def test_a_full_queue_says_when_to_come_again(model: lengthwise.Model) -> None:
    with live(model, Double(model, most=2)) as server:
        server.engine.held.clear()
        body = {"messages": HI, "max_tokens": 1}
        waiting = [
            threading.Thread(target=httpx.post, args=(server.url + CHAT,), kwargs={"json": body})
            for _ in range(3)
        ]
        for number, each in enumerate(waiting, 1):
            each.start()
            eventually(lambda number=number: len(server.engine.tickets) == number)
            eventually(lambda number=number: server.engine.stats().waiting == number - 1)
        answer = httpx.post(server.url + CHAT, json=body)
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "3"
        assert answer.json()["error"]["code"] == "queue_full"
        # Of several texts either all are taken or none.
        before = len(server.engine.tickets)
        server.engine.most = 3
        assert httpx.post(server.url + CHAT, json={**body, "n": 2}).status_code == 429
        assert all(each.cancelled.is_set() for each in server.engine.tickets[before:])
        server.engine.held.set()
        for each in waiting:
            each.join(10)


def test_more_calls_than_may_be_open_are_told_to_come_again(
    model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MOST_CALLS", 0)
    with live(model) as server:
        answer = httpx.post(server.url + CHAT, json=LONG)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert httpx.get(server.url + "/health").status_code == 200


class Failing(Double):
    """An engine whose texts end with `error`, after a first piece."""

    error: Exception = LengthwiseError("it ended")

    def _write(self, ticket: Ticket) -> None:
        ticket.told(Piece("x", [1], []))
        ticket.told(Piece("", [], [], self.error))  # type: ignore[arg-type]


def test_an_error_after_the_first_piece_ends_a_stream_and_fails_a_whole(
    model: lengthwise.Model,
) -> None:
    with live(model, Failing(model)) as server:
        whole = httpx.post(server.url + CHAT, json=LONG)
        assert whole.status_code == 400 and whole.json()["error"]["message"] == "it ended"
        text = httpx.post(server.url + CHAT, json={**LONG, "stream": True}).text
        *_, error, done, end = text.split("\n\n")
        assert json.loads(error.removeprefix("data: "))["error"]["message"] == "it ended"
        assert (done, end) == ("data: [DONE]", "")


class Broken(Double):
    """An engine with a defect of its own."""

    def submit(self, ask: Ask, told: Callable[[Piece], None]) -> Ticket:
        raise ZeroDivisionError("secret of the server")


def test_a_defect_of_ours_is_told_without_its_inside(model: lengthwise.Model) -> None:
    with live(model, Broken(model)) as server:
        answer = httpx.post(server.url + CHAT, json=LONG)
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal_error"
        assert "secret" not in answer.text


def test_a_server_that_ends_finishes_what_runs(model: lengthwise.Model) -> None:
    found: list[httpx.Response] = []
    with live(model) as server:
        server.engine.held.clear()
        body = {"messages": HI, "max_tokens": 5, "temperature": 0}
        asking = threading.Thread(
            target=lambda: found.append(httpx.post(server.url + CHAT, json=body, timeout=30))
        )
        asking.start()
        eventually(lambda: server.engine.tickets)
        server.server.should_exit = True
        eventually(lambda: server.engine.closed is not None)
        asking.join(10)
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url + "/health")
    assert found[0].status_code == 200
    expected = model.generate(HI, max_new_tokens=5).text
    assert found[0].json()["choices"][0]["message"]["content"] == expected


class Late(Double):
    """An engine whose texts are broken off by their deadline, `said` tokens on."""

    said = 3

    def _write(self, ticket: Ticket) -> None:
        found = self.model.generate(ticket.ask.ids, max_new_tokens=self.said)
        metrics = replace(found.metrics, finish_reason="deadline")
        ids = found.token_ids if self.said > 1 else []
        if ids:
            ticket.told(Piece(found.text, ids, []))
        ticket.told(Piece("", [], [], replace(found, metrics=metrics, token_ids=ids)))


def test_a_deadline_gives_what_was_said_or_an_error(
    model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live(model, Late(model)) as server:
        answer = httpx.post(server.url + CHAT, json={**LONG, "deadline_s": 5})
        (choice,) = answer.json()["choices"]
        assert choice["finish_reason"] == "length" and len(choice["message"]["content"]) == 3
        assert choice["lengthwise"]["ended"] == "deadline"
        assert server.engine.tickets[-1].ask.deadline_s == 5
        assert 'outcome="deadline"' in httpx.get(server.url + "/metrics").text
        monkeypatch.setattr(Late, "said", 1)
        answer = httpx.post(server.url + CHAT, json=LONG)
        assert answer.status_code == 504 and answer.json()["error"]["code"] == "deadline"


def test_the_deadline_of_a_call_is_no_longer_than_that_of_the_server(
    model: lengthwise.Model,
) -> None:
    with live(model, limits=Limits(deadline_s=20)) as server:
        for asked, given in ((None, 20), (5, 5), (500, 20)):
            body = {"messages": HI, "max_tokens": 1, "deadline_s": asked}
            assert httpx.post(server.url + CHAT, json=body, timeout=30).status_code == 200
            assert server.engine.tickets[-1].ask.deadline_s == given
