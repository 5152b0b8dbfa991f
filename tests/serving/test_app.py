"""What is answered has OpenAI's shapes, whole and in chunks, and the text of `generate`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import lengthwise
from lengthwise.recipes import parse
from lengthwise.serving.asks import Limits
from lengthwise.serving.engine import Engine
from lengthwise.serving.naming import Names
from tests.chat_models import TEMPLATE, chat_model
from tests.serving.live import CHAT, GREEDY, HI, TEXT, Live, events, live


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return chat_model()


@pytest.fixture(scope="module")
def server(model: lengthwise.Model) -> Iterator[Live]:
    with live(model, Engine(model, cache_bytes=0), limits=Limits(new_tokens=200)) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as found:
        yield found


def chat(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = client.post(CHAT, json={"messages": HI, **GREEDY, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_chat_is_what_generate_says(client: httpx.Client, model: lengthwise.Model) -> None:
    found = chat(client, model="tiny")
    (choice,) = found["choices"]
    expected = model.generate(HI, max_new_tokens=6)
    assert choice["message"] == {
        "role": "assistant", "content": expected.text, "refusal": None,
    }  # fmt: skip
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert (found["object"], found["model"]) == ("chat.completion", "tiny")
    assert found["id"].startswith("chatcmpl-")
    usage = found["usage"]
    assert usage["prompt_tokens"] == expected.metrics.prompt_tokens
    assert usage["completion_tokens"] == 6
    assert usage["total_tokens"] == usage["prompt_tokens"] + 6
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}


def test_a_stream_has_the_role_first_and_the_reason_last(
    client: httpx.Client, model: lengthwise.Model
) -> None:
    first, *middle, last = events(client)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert {each["object"] for each in (first, *middle, last)} == {"chat.completion.chunk"}
    assert len({each["id"] for each in (first, *middle, last)}) == 1
    text = "".join(each["choices"][0]["delta"]["content"] for each in middle)
    assert text == model.generate(HI, max_new_tokens=6).text
    assert all(each["choices"][0]["finish_reason"] is None for each in (first, *middle))
    assert last["choices"][0]["delta"] == {}
    assert last["choices"][0]["finish_reason"] == "length"
    assert not any("usage" in each for each in (first, *middle, last))


def test_usage_is_a_chunk_of_its_own_where_it_is_asked_for(client: httpx.Client) -> None:
    *others, last = events(client, stream_options={"include_usage": True})
    assert all(each["usage"] is None for each in others)
    assert last["choices"] == []
    assert last["usage"] == chat(client)["usage"]


def test_the_last_chunk_and_the_whole_tell_what_the_recipe_did(client: httpx.Client) -> None:
    asked = {"messages": [{"role": "user", "content": "h" * 100}]}
    asked["recipe"] = "streaming(window=8, sinks=2) + lookup"
    whole, last = chat(client, **asked)["choices"][0], events(client, **asked)[-1]["choices"][0]
    for found in (whole["lengthwise"], last["lengthwise"]):
        assert found["recipe"] == "streaming(sinks=2, window=8) + lookup"
        assert found["read_tokens"] == 118 + 6
        assert 10 <= found["kept_tokens"] < 40
        assert found["kv_bytes"] < found["plain_kv_bytes"] == 124 * 512
        assert found["ttft_s"] > 0 and found["steps"] >= 1
    assert chat(client)["choices"][0]["lengthwise"]["kept_tokens"] == 26


def test_a_recipe_may_stand_in_the_name_of_the_model(client: httpx.Client) -> None:
    found = chat(client, model="tiny:yarn(factor=2)+lookup")
    assert found["model"] == "tiny:yarn(factor=2) + lookup"
    assert found["choices"][0]["lengthwise"]["recipe"] == "yarn(factor=2) + lookup"


def test_several_texts_are_drawn_apart_and_a_seed_gives_them_again(client: httpx.Client) -> None:
    drawn = {"n": 3, "seed": 5, "temperature": 1}
    one, two = (chat(client, **drawn) for _ in range(2))
    texts = [each["message"]["content"] for each in one["choices"]]
    assert texts == [each["message"]["content"] for each in two["choices"]]
    assert len(set(texts)) == 3
    assert [each["index"] for each in one["choices"]] == [0, 1, 2]
    assert one["usage"]["completion_tokens"] == 18
    assert one["usage"]["prompt_tokens"] == chat(client)["usage"]["prompt_tokens"]
    streamed = {0: "", 1: "", 2: ""}
    for chunk in events(client, **drawn):
        choice = chunk["choices"][0]
        streamed[choice["index"]] += choice["delta"].get("content", "")
    assert list(streamed.values()) == texts


def test_without_a_seed_draws_are_new_ones(client: httpx.Client) -> None:
    texts = {chat(client, temperature=1)["choices"][0]["message"]["content"] for _ in range(4)}
    assert len(texts) > 1


def test_greedy_ignores_what_narrows_draws(client: httpx.Client) -> None:
    assert (
        chat(client, top_p=0.5, top_k=3)["choices"][0]["message"]
        == (chat(client)["choices"][0]["message"])
    )


def test_a_stop_string_ends_the_text_and_is_left_out(
    client: httpx.Client, model: lengthwise.Model
) -> None:
    text = model.generate(HI, max_new_tokens=6).text
    for stop in (text[3], ["never", text[3:5]]):
        (choice,) = chat(client, stop=stop)["choices"]
        assert choice["message"]["content"] == text[: text.index(text[3])]
        assert choice["finish_reason"] == "stop"


def test_log_probabilities_of_a_chat(client: httpx.Client, model: lengthwise.Model) -> None:
    asked = {"logprobs": True, "top_logprobs": 1}
    (choice,) = chat(client, **asked)["choices"]
    content = choice["logprobs"]["content"]
    assert "".join(each["token"] for each in content) == choice["message"]["content"]
    ids, out = model.encode(HI), model.generate(HI, max_new_tokens=6).token_ids
    scores = model.score([*ids, *out], prompt=len(ids)).tolist()
    assert [each["logprob"] for each in content] == pytest.approx(scores, abs=1e-4)
    assert all(each["bytes"] == list(each["token"].encode()) for each in content)
    assert all(len(each["top_logprobs"]) == 1 for each in content)
    streamed = [
        each
        for chunk in events(client, **asked)
        if (found := chunk["choices"][0]["logprobs"])
        for each in found["content"]
    ]
    assert streamed == content
    assert chat(client, logprobs=True)["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def test_log_probabilities_of_a_text(client: httpx.Client) -> None:
    answer = client.post(TEXT, json={"prompt": "ab", **GREEDY, "logprobs": 1}).json()
    found = answer["choices"][0]["logprobs"]
    assert "".join(found["tokens"]) == answer["choices"][0]["text"]
    assert found["text_offset"] == [0, 1, 2, 3, 4, 5]
    for token, value, top in zip(
        found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True
    ):
        # The likeliest one, and the one that was said where that is another.
        assert len(top) in (1, 2) and top[token] == value
        assert max(top.values()) >= value


def test_texts_of_several_prompts_follow_each_other(
    client: httpx.Client, model: lengthwise.Model
) -> None:
    answer = client.post(TEXT, json={"prompt": ["ab", "cd"], "n": 2, **GREEDY}).json()
    assert answer["object"] == "text_completion"
    expected = [model.generate(each, max_new_tokens=6).text for each in ("ab", "ab", "cd", "cd")]
    assert [each["text"] for each in answer["choices"]] == expected
    assert answer["usage"]["prompt_tokens"] == 4
    ids = client.post(TEXT, json={"prompt": model.encode("ab"), **GREEDY}).json()
    assert ids["choices"][0]["text"] == expected[0]
    streamed = events(client, TEXT, prompt="ab")
    assert "".join(each["choices"][0]["text"] for each in streamed) == expected[0]
    assert streamed[-1]["choices"][0]["finish_reason"] == "length"


def test_special_tokens_written_in_a_text_are_text(client: httpx.Client) -> None:
    answer = client.post(TEXT, json={"prompt": "<|endoftext|>", **GREEDY}).json()
    assert answer["usage"]["prompt_tokens"] == len("<|endoftext|>")


def test_parts_and_a_developer_are_a_message_like_any_other(client: httpx.Client) -> None:
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    assert (
        chat(client, messages=[{"role": "user", "content": parts}])["choices"][0]["message"]
        == (chat(client)["choices"][0]["message"])
    )
    system, developer = (
        chat(client, messages=[{"role": role, "content": "x"}, *HI])["choices"][0]["message"]
        for role in ("system", "developer")
    )
    assert system == developer


@pytest.mark.parametrize(
    ("path", "fields", "status", "param"),
    [
        (CHAT, {"recipe": "yarm"}, 422, "recipe"),
        (CHAT, {"recipe": "yarn + ntk"}, 422, None),
        (CHAT, {"model": "gpt-4"}, 404, "model"),
        (CHAT, {"max_tokens": 201}, 400, "max_tokens"),
        (CHAT, {"max_completion_tokens": 10**30, "max_tokens": None}, 400, "max_completion_tokens"),
        (CHAT, {"max_completion_tokens": 5}, 400, "max_tokens"),
        (CHAT, {"top_logprobs": 2}, 400, "top_logprobs"),
        (CHAT, {"tools": [{"type": "function"}]}, 400, "tools"),
        (CHAT, {"temperature": 1e-300}, 400, None),
        (TEXT, {"prompt": ""}, 400, "prompt"),
        (TEXT, {"prompt": [10**9]}, 400, "prompt"),
        (TEXT, {"prompt": ["a"] * 20, "n": 2}, 400, "n"),
    ],
)
def test_what_is_refused_is_told_before_anything_streams(
    client: httpx.Client, path: str, fields: dict[str, Any], status: int, param: str | None
) -> None:
    asked = {"messages": HI} if path == CHAT else {}
    for stream in (False, True):
        answer = client.post(path, json={**asked, **GREEDY, **fields, "stream": stream})
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["param"] == param


def test_messages_that_the_template_cannot_render_are_the_callers_to_mend() -> None:
    model = chat_model(TEMPLATE.replace("m['content']", "'' + (m['content'] or none)"))
    with live(model) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        answer = client.post(CHAT, json={"messages": [{"role": "user", "content": ""}], **GREEDY})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == "messages" and "chat template" in error["message"]
        assert client.post(CHAT, json={"messages": HI, **GREEDY}).status_code == 200


def test_an_unknown_recipe_is_told_with_its_place(client: httpx.Client) -> None:
    answer = client.post(CHAT, json={"messages": HI, "recipe": "lookup + yarm"})
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert "did you mean 'yarn'? (position 10)" in message
    assert message.splitlines()[1:] == ["  lookup + yarm", "           ^"]


def test_models_are_listed_and_found(client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    (found,) = listed["data"]
    assert (found["id"], found["object"], found["recipe"]) == ("tiny", "model", "full")
    assert client.get("/v1/models/tiny").json() == found
    assert client.get("/v1/models/tiny:lookup").json()["recipe"] == "lookup"
    assert client.get("/v1/models/gpt-4").status_code == 404
    assert client.get("/v1/models/tiny:yarm").status_code == 422


def test_paths_and_methods_that_there_are_not(client: httpx.Client) -> None:
    for method, path, status in (
        ("GET", "/nope", 404), ("GET", CHAT, 405), ("POST", "/v1/models", 405),
        ("GET", "/page/../app.py", 404), ("GET", "/page/%2e%2e/app.py", 404),
        ("POST", "/v1/embeddings", 404), ("GET", "/docs", 404), ("GET", "/openapi.json", 404),
    ):  # fmt: skip
        answer = client.request(method, path)
        assert answer.status_code == status, path
        assert answer.json()["error"]["message"]


def test_health_and_metrics(client: httpx.Client) -> None:
    chat(client)
    client.post(CHAT, json={"messages": HI, "recipe": "yarm"})
    assert client.head("/health").status_code == client.head("/").status_code == 200
    assert client.get("/health").json() == {"status": "ok", "running": 0, "waiting": 0}
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = dict(
        line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")
    )
    path = f'path="{CHAT}"'
    assert float(lines[f'lengthwise_requests_total{{outcome="ok",{path}}}']) >= 1
    assert float(lines[f'lengthwise_requests_total{{outcome="recipe_invalid",{path}}}']) >= 1
    assert float(lines["lengthwise_time_to_first_token_seconds_count"]) >= 1
    assert float(lines["lengthwise_inter_token_seconds_count"]) >= 5
    assert float(lines["lengthwise_requests_running"]) == 0
    assert float(lines['lengthwise_texts_total{reason="length"}']) >= 1
    assert float(lines["lengthwise_prompt_tokens_total"]) >= 20


def test_names_of_paths_do_not_grow_the_metrics(client: httpx.Client) -> None:
    for number in range(5):
        client.get(f"/nope/{number}")
    text = client.get("/metrics").text
    assert 'path="other"' in text and "/nope" not in text


def test_the_openai_client_talks_to_it(server: Live, model: lengthwise.Model) -> None:
    from openai import BadRequestError, NotFoundError, OpenAI

    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        assert [each.id for each in client.models.list()] == ["tiny"]
        expected = model.generate(HI, max_new_tokens=6).text
        found = client.chat.completions.create(
            model="tiny", messages=HI, temperature=0, max_completion_tokens=6,
            logprobs=True, extra_body={"recipe": "lookup"},
        )  # fmt: skip
        assert found.choices[0].message.content == expected
        assert found.choices[0].logprobs is not None
        assert found.usage is not None and found.usage.prompt_tokens_details is not None
        assert found.choices[0].model_extra["lengthwise"]["recipe"] == "lookup"
        chunks = list(
            client.chat.completions.create(
                model="tiny:lookup", messages=HI, temperature=0, max_tokens=6, stream=True,
                stream_options={"include_usage": True},
            )
        )  # fmt: skip
        said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert said == expected
        assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 6
        text = client.completions.create(
            model="tiny", prompt="ab", temperature=0, max_tokens=6, logprobs=1
        )  # fmt: skip
        assert text.choices[0].text == model.generate("ab", max_new_tokens=6).text
        # What was said goes into the next turn as it came.
        again = client.chat.completions.create(
            model="tiny", messages=[*HI, found.choices[0].message, *HI], max_tokens=2
        )  # fmt: skip
        assert again.choices[0].message.role == "assistant"
        with pytest.raises(NotFoundError):
            client.chat.completions.create(model="gpt-4", messages=HI)
        with pytest.raises(BadRequestError, match="tools"):
            client.chat.completions.create(
                model="tiny", messages=HI,
                tools=[{"type": "function", "function": {"name": "f"}}],
            )  # fmt: skip


def test_a_model_without_a_chat_template_says_so() -> None:
    with live(chat_model(None)) as found:
        answer = httpx.post(found.url + CHAT, json={"messages": HI})
        assert answer.status_code == 400
        assert "no chat template" in answer.json()["error"]["message"]


def test_the_recipe_of_the_server_is_that_of_calls_that_name_none() -> None:
    with live(names=Names(["a", "b"], parse("lookup"))) as found:
        answer = httpx.post(found.url + CHAT, json={"messages": HI, "max_tokens": 2}, timeout=30)
        assert answer.json()["model"] == "a"
        assert answer.json()["choices"][0]["lengthwise"]["recipe"] == "lookup"
        assert [m["id"] for m in httpx.get(found.url + "/v1/models").json()["data"]] == ["a", "b"]
