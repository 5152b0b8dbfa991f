"""Fields of OpenAI's and vLLM's requests that say how texts are chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import lengthwise
from lengthwise.serving.asks import Limits
from lengthwise.serving.engine import Engine
from tests.chat_models import chat_model
from tests.serving.live import CHAT, HI, TEXT, live

PROMPT = "one two three"


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return chat_model()


@pytest.fixture(scope="module")
def client(model: lengthwise.Model) -> Iterator[httpx.Client]:
    engine = Engine(model, cache_bytes=0)
    with (
        live(model, engine, limits=Limits(new_tokens=200)) as found,
        httpx.Client(base_url=found.url, timeout=60) as opened,
    ):
        yield opened


def text(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = client.post(TEXT, json={"prompt": PROMPT, "max_tokens": 6, "seed": 3, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def said(found: dict[str, Any]) -> list[str]:
    return [choice["text"] for choice in found["choices"]]


def test_the_best_of_several_are_the_likeliest_of_them(client: httpx.Client) -> None:
    every = text(client, n=6, logprobs=0)
    means = {
        choice["text"]: sum(choice["logprobs"]["token_logprobs"]) / 6 for choice in every["choices"]
    }
    found = text(client, n=2, best_of=6)
    assert said(found) == sorted(means, key=lambda each: -means[each])[:2]
    assert [choice["index"] for choice in found["choices"]] == [0, 1]
    assert all(choice["logprobs"] is None for choice in found["choices"])
    # What is left out was written all the same.
    assert found["usage"]["completion_tokens"] == every["usage"]["completion_tokens"] == 36
    two = text(client, prompt=[PROMPT, "four five"], best_of=3, n=1)
    assert len(two["choices"]) == 2 and said(two)[0] in said(text(client, n=3))


def test_beams_are_the_choices_of_a_search(client: httpx.Client, model: lengthwise.Model) -> None:
    found = text(client, n=3, use_beam_search=True, length_penalty=0.5)
    ids = model.encode(PROMPT, "text")
    wanted = model.search(ids, num_beams=3, length_penalty=0.5, max_new_tokens=6)
    assert said(found) == wanted.alternatives
    assert found["choices"][0]["lengthwise"]["recipe"] == "beam(width=3, length_penalty=0.5)"
    wider = text(client, n=1, best_of=4, use_beam_search=True)
    assert said(wider) == model.search(ids, num_beams=4, max_new_tokens=6).alternatives[:1]


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_choice": ["one", "two"]},
        {"structured_outputs": {"choice": ["one", "two"]}},
        {"guided_regex": "(one|two)"},
        {"recipe": 'grammar(choice="one|two")'},
    ],
)
def test_a_constraint_holds(client: httpx.Client, fields: dict[str, Any]) -> None:
    found = text(client, n=4, max_tokens=20, **fields)
    assert set(said(found)) <= {"one", "two"}
    assert {choice["finish_reason"] for choice in found["choices"]} == {"stop"}


def test_an_answer_follows_a_schema(client: httpx.Client) -> None:
    # The tiny model says letters alone.
    asked = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "boolean"}}}
    body = {"messages": HI, "max_tokens": 60, "response_format": asked}
    found = client.post(CHAT, json=body).json()["choices"][0]
    assert json.loads(found["message"]["content"]) in (True, False)
    idle = {"messages": HI, "max_tokens": 4, "response_format": {"type": "text"}}
    assert client.post(CHAT, json=idle).status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"n": 3, "best_of": 2}, 400, "best_of=2 texts are fewer than n=3"),
        ({"best_of": 3, "stream": True}, 400, "best_of ranks whole texts"),
        ({"use_beam_search": True, "stream": True}, 400, "use_beam_search ranks whole texts"),
        ({"length_penalty": 2.0}, 400, "length_penalty is for beams"),
        ({"use_beam_search": True, "n": 2, "recipe": "superposed"}, 422, "both decide"),
        ({"use_beam_search": True, "n": 2, "logprobs": 1}, 422, "logprobs are of one"),
        ({"guided_json": {"type": "nothing"}}, 400, "guided_json"),
        ({"guided_regex": "(("}, 400, "guided_regex"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, 400, "give one"),
        ({"response_format": {"type": "xml"}}, 400, "response_format"),
        ({"structured_outputs": {"json": "/etc/passwd"}}, 400, "no file is read"),
        ({"recipe": 'grammar(json="/etc/passwd")'}, 422, "names a file"),
        ({"best_of": 40}, 400, "best_of"),
        ({"prompt": ["a"] * 20, "best_of": 3}, 400, "60 texts"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(
    client: httpx.Client, fields: dict[str, Any], status: int, words: str
) -> None:
    answer = client.post(TEXT, json={"prompt": PROMPT, "max_tokens": 4, **fields})
    assert answer.status_code == status and words in answer.json()["error"]["message"], answer.text
    # The server is as it was.
    assert len(said(text(client))) == 1
