"""`lengthwise serve`: the real server, started as a user does, and talked to as clients do."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import lengthwise
from tests.called import called
from tests.serving.served import Served, saved_model

HI = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("models") / "talker")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    found = Served(str(folder), "--dtype", "fp32", "--api-key", "secret", "--recipe", "lookup")
    yield found
    status, err = found.end()
    assert status == 0
    assert "Traceback" not in err


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Any]:
    from openai import OpenAI

    with OpenAI(base_url=f"{served.url}/v1", api_key="secret", max_retries=0) as found:
        yield found


def test_it_says_where_it_is(served: Served) -> None:
    assert served.url.startswith("http://127.0.0.1:")
    assert served.said.endswith("serves talker under lookup; Ctrl-C ends it\n")
    assert httpx.get(f"{served.url}/health").json()["status"] == "ok"
    assert "<title>lengthwise</title>" in httpx.get(served.url).text


def test_the_openai_client_gets_what_generate_says(client: Any, folder: Path) -> None:
    model = lengthwise.load(str(folder), "fp32")
    expected = model.generate(HI, max_new_tokens=8).text
    asked = {"messages": HI, "temperature": 0, "max_tokens": 8}
    found = client.chat.completions.create(model="talker", **asked)
    assert found.choices[0].message.content == expected
    assert found.choices[0].model_extra["lengthwise"]["recipe"] == "lookup"
    chunks = client.chat.completions.create(model="talker:full", stream=True, **asked)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == expected
    text = client.completions.create(model="talker", prompt="ab", temperature=0, max_tokens=8)
    assert text.choices[0].text == model.generate("ab", max_new_tokens=8).text


def test_what_was_read_is_not_read_again(client: Any) -> None:
    long = [{"role": "user", "content": "what was read once " * 10}]
    asked = {"model": "talker", "messages": long, "temperature": 0, "max_tokens": 4}
    first, second = (client.chat.completions.create(**asked) for _ in range(2))
    assert first.choices[0].message.content == second.choices[0].message.content
    assert second.usage.prompt_tokens_details.cached_tokens > 100


def test_many_ask_at_once_and_each_gets_its_own(client: Any) -> None:
    asked = [f"question {number}" for number in range(6)]
    found: dict[str, str] = {}

    def ask(text: str) -> None:
        answer = client.chat.completions.create(
            model="talker", messages=[{"role": "user", "content": text}], temperature=0,
            max_tokens=12,
        )  # fmt: skip
        found[text] = answer.choices[0].message.content

    threads = [threading.Thread(target=ask, args=(text,)) for text in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    together = dict(found)
    for text in asked:
        ask(text)
    assert found == together and len(found) == 6


def test_a_deadline_ends_a_text(served: Served) -> None:
    body = {"messages": HI, "temperature": 0, "max_tokens": 400, "deadline_s": 0.001}
    headers = {"Authorization": "Bearer secret"}
    answer = httpx.post(served.url + CHAT, json=body, headers=headers, timeout=60)
    if answer.status_code == 504:
        assert answer.json()["error"]["code"] == "deadline"
        return
    (choice,) = answer.json()["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["lengthwise"]["ended"] == "deadline"
    assert answer.json()["usage"]["completion_tokens"] < 400


def test_who_hangs_up_frees_the_engine(served: Served) -> None:
    body = {"messages": HI, "max_tokens": 400, "stream": True}
    headers = {"Authorization": "Bearer secret"}
    with httpx.stream("POST", served.url + CHAT, json=body, headers=headers) as answer:
        next(answer.iter_lines())
    for _ in range(200):
        if httpx.get(f"{served.url}/health").json()["running"] == 0:
            break
        threading.Event().wait(0.05)
    text = httpx.get(f"{served.url}/metrics", headers=headers).text
    assert 'lengthwise_texts_total{reason="cancelled"}' in text


def test_without_the_key_nothing_is_answered(served: Served) -> None:
    assert httpx.post(served.url + CHAT, json={"messages": HI}).status_code == 401


@pytest.mark.skipif(importlib.util.find_spec("llm") is None, reason="llm is not installed")
def test_llm_talks_to_it(served: Served, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        "- model_id: ours\n  model_name: talker:full\n"
        f"  api_base: {served.url}/v1\n  api_key_name: ours\n"
    )
    (tmp_path / "keys.json").write_text(json.dumps({"ours": "secret"}))
    done = subprocess.run(
        [sys.executable, "-m", "llm", "-m", "ours", "-o", "max_tokens", "8", "-o", "temperature",
         "0", "hi"],
        env={**os.environ, "LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 8


def test_a_signal_lets_what_runs_finish(folder: Path) -> None:
    server = Served(str(folder), "--dtype", "fp32")
    body = {"messages": HI, "max_tokens": 100, "temperature": 0, "stream": True}
    with httpx.stream("POST", server.url + CHAT, json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        server.process.send_signal(signal.SIGTERM)
        *_, last = [line for line in lines if line]
    assert last == "data: [DONE]"
    server.process.communicate(timeout=60)
    assert server.process.returncode == 0


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, out, err = called("serve", "nope/such-model", "--port", port)
    assert (status, out) == (2, "")
    assert f"port {port}" in err and "another --port" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("a", "-m", "b"), "two models are given"),
        (("--host", "no.such.host.invalid"), "there is no such address"),
        (("--api-key", "two words"), "no space"),
        (("--api-key", "schl\u00fcssel"), "ASCII"),
        (("--max-body", "0"), "no request could be read"),
        (("--max-body", "12 parsecs"), "no number of bytes"),
        (("--port", "70000"), "more than 65,535"),
        (("--recipe", "yarm"), "did you mean 'yarn'"),
        (("--served-name", " "), "--served-name is empty"),
    ],
)
def test_what_no_server_can_be_made_of_is_one_line(words: tuple[str, ...], told: str) -> None:
    status, out, err = called("serve", *words)
    assert (status, out) == (2, "")
    assert told in err and len(err.splitlines()) == 1


def test_nothing_else_waits_for_what_only_a_server_needs() -> None:
    program = (
        "import sys, lengthwise, lengthwise.cli.main, lengthwise.api.model\n"
        "from lengthwise.cli import run, chat, read, compare\n"
        "print([m for m in ('fastapi', 'starlette', 'uvicorn', 'prometheus_client', 'pydantic')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
