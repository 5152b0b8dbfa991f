"""Many callers at once, of whom some leave, some send nonsense, and some do not read."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

import lengthwise
from tests.serving.served import Served, saved_model

CHAT = "/v1/chat/completions"
RECIPES = ("full", "lookup", "streaming(window=48, sinks=4)", "kivi")


class Crowd:
    """Callers in threads of their own, until the time is over. found: answers that were whole, by
    what was asked. counts: what became of calls. wrong: what should not have happened."""

    def __init__(self, url: str, clients: int, seconds: float) -> None:
        self.url, self.end = url, time.monotonic() + seconds
        self.found: dict[str, set[str]] = {}
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        self.threads = [threading.Thread(target=self._live, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def _live(self, number: int) -> None:
        rng = random.Random(number)
        ways = [self._ask] * 10 + [self._leave, self._nonsense, self._flood, self._dawdle] * 2
        with httpx.Client(base_url=self.url, timeout=120) as client:
            while time.monotonic() < self.end:
                way = rng.choice(ways)
                try:
                    way(client, rng)
                except Exception as error:
                    self.wrong.append(f"{way.__name__}: {type(error).__name__}: {error}")

    def _body(self, rng: random.Random) -> dict[str, Any]:
        text = f"question {rng.randrange(8)} " * rng.choice((1, 4))
        return {
            "messages": [{"role": "user", "content": text}], "temperature": 0,
            "max_tokens": rng.choice((4, 12)), "recipe": rng.choice(RECIPES),
        }  # fmt: skip

    def _count(self, answer: httpx.Response, allowed: tuple[int, ...]) -> None:
        with self._lock:
            self.counts[str(answer.status_code)] += 1
        if answer.status_code not in allowed:
            self.wrong.append(f"{answer.status_code}: {answer.text[:200]}")

    def _ask(self, client: httpx.Client, rng: random.Random) -> None:
        body = self._body(rng)
        answer = client.post(CHAT, json=body)
        self._count(answer, (200, 429))
        if answer.status_code == 200:
            text = answer.json()["choices"][0]["message"]["content"]
            with self._lock:
                self.found.setdefault(json.dumps(body), set()).add(text)

    def _leave(self, client: httpx.Client, rng: random.Random) -> None:
        body = {**self._body(rng), "stream": True, "max_tokens": 200}
        with client.stream("POST", CHAT, json=body) as answer:
            lines = answer.iter_lines()
            for _ in range(rng.randrange(6)):
                next(lines, None)
        with self._lock:
            self.counts["left"] += 1

    def _nonsense(self, client: httpx.Client, rng: random.Random) -> None:
        content = rng.choice((b"{", b"\xff\xfe", b"[]", b'{"messages": 3}', b"[" * 5000))
        answer = client.post(CHAT, content=content, headers={"Content-Type": "application/json"})
        self._count(answer, (400,))

    def _flood(self, client: httpx.Client, rng: random.Random) -> None:
        answer = client.post(
            CHAT, content=b" " * 200_000, headers={"Content-Type": "application/json"}
        )
        self._count(answer, (413,))

    def _dawdle(self, client: httpx.Client, rng: random.Random) -> None:
        body = json.dumps({**self._body(rng), "stream": True, "max_tokens": 100}).encode()
        place = httpx.URL(self.url)
        assert place.port is not None
        with socket.create_connection((place.host, place.port)) as given:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            given.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            for _ in range(5):
                given.recv(1)
                time.sleep(0.05)
        with self._lock:
            self.counts["dawdled"] += 1


def resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096


def loaded(folder: Path, clients: int, seconds: float, settled: float) -> tuple[int, int]:
    """Loads a server; what it held once it had settled, and at the end."""
    server = Served(str(folder), "--dtype", "fp32", "--max-body", "100KB", "--cache-bytes", "4MB")
    crowd = Crowd(server.url, clients, seconds)
    time.sleep(settled)
    before = resident(server.process.pid)
    for thread in crowd.threads:
        thread.join()
    for _ in range(200):
        health = httpx.get(server.url + "/health").json()
        if health["running"] == health["waiting"] == 0:
            break
        time.sleep(0.1)
    assert (health["running"], health["waiting"]) == (0, 0)
    after = resident(server.process.pid)
    status, err = server.end()
    assert (status, crowd.wrong) == (0, [])
    assert "Traceback" not in err
    assert crowd.counts["200"] and crowd.counts["400"] and crowd.counts["413"]
    assert crowd.counts["left"] and crowd.counts["dawdled"]
    with lengthwise.load(str(folder), "fp32") as model:
        for asked, texts in crowd.found.items():
            body = json.loads(asked)
            alone = model.generate(
                body["messages"], body["recipe"], max_new_tokens=body["max_tokens"]
            )  # fmt: skip
            assert texts == {alone.text}, asked
    return before, after


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved_model(tmp_path / "talker")


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc")


@pytest.mark.slow
@needs_proc
def test_under_load_every_answer_is_that_of_one_asked_alone(folder: Path) -> None:
    loaded(folder, clients=6, seconds=6, settled=1)


@needs_proc
@pytest.mark.slow
def test_ten_minutes_of_load_take_no_more_memory_than_the_first(folder: Path) -> None:
    before, after = loaded(folder, clients=32, seconds=600, settled=60)
    assert after <= 1.05 * before
