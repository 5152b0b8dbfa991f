"""Who may call, and what an engine that is full, late, failing or ending makes of a call."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import pytest

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.serving import guard
from lengthwise.serving.asks import Limits
from lengthwise.serving.engine import Ask, Piece
from tests.chat_models import chat_model
from tests.serving.double import Double, Ticket
from tests.serving.live import CHAT, HI, Live, eventually, live

LONG = {"messages": HI, "temperature": 0, "max_tokens": 400}
KEY = "secret"


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return chat_model()


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
