"""A prompt that is echoed stands before its text, with what the model thought of its tokens."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

import lengthwise
from lengthwise.api.text_model import LocalText
from lengthwise.serving.engine import Engine
from tests.chat_models import chat_model
from tests.serving.live import CHAT, GREEDY, HI, TEXT, Live, events, live


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return chat_model()


@pytest.fixture(scope="module")
def server(model: lengthwise.Model) -> Iterator[Live]:
    # With a prefix cache: what it holds of a prompt tells nothing of its tokens.
    with live(model, Engine(model, cache_bytes="10MB")) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Live) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as found:
        yield found


def test_an_echo_is_the_prompt_before_each_text(
    client: httpx.Client, model: lengthwise.Model
) -> None:
    said = [model.generate(each, max_new_tokens=6).text for each in ("ab", "cd")]
    for prompts in (["ab", "cd"], [model.encode("ab"), model.encode("cd")]):
        asked = {"prompt": prompts, "n": 2, "echo": True, **GREEDY}
        found = [each["text"] for each in client.post(TEXT, json=asked).json()["choices"]]
        assert found == [f"ab{said[0]}"] * 2 + [f"cd{said[1]}"] * 2
    for more in ({}, {"logprobs": 0}):
        streamed = ["", ""]
        for chunk in events(client, TEXT, prompt=["ab", "cd"], echo=True, **more):
            for choice in chunk["choices"]:
                streamed[choice["index"]] += choice["text"]
        assert streamed == [f"ab{said[0]}", f"cd{said[1]}"]


@pytest.mark.parametrize("recipe", ["full", "lookup", "kivi(bits=4)"])
def test_an_echo_tells_what_the_model_thought_of_the_prompt(
    client: httpx.Client, model: lengthwise.Model, recipe: str
) -> None:
    prompt = "A cafe, a cafe: \u00e9\U0001f600 " * 20
    asked = {"prompt": prompt, "echo": True, "logprobs": 2, **GREEDY, "recipe": recipe}
    for _ in range(2):
        answer = client.post(TEXT, json=asked).json()
        (choice,) = answer["choices"]
        logs, ids = choice["logprobs"], model.encode(prompt)
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        values = logs["token_logprobs"]
        assert len(values) == len(ids) + 6 and values[0] is None and logs["top_logprobs"][0] is None
        expected = model.score(ids, recipe=recipe)
        assert values[1 : len(ids)] == pytest.approx(expected.tolist(), abs=1e-4)
        offsets = logs["text_offset"]
        assert offsets[len(ids)] == len(prompt) and offsets == sorted(offsets)
        for place, token in enumerate(logs["tokens"][: len(ids)]):
            text = choice["text"][offsets[place] :]
            assert text.startswith(token) or "\ufffd" in token
        for token, value, top in zip(logs["tokens"][1:], values[1:], logs["top_logprobs"][1:],
                                     strict=True):  # fmt: skip
            assert top[token] >= value and len(top) in (1, 2, 3)
    streamed = [c["choices"][0] for c in events(client, TEXT, **{**asked, "stream": True})]
    together = [v for each in streamed if each["logprobs"]
                for v in each["logprobs"]["token_logprobs"]]  # fmt: skip
    assert together == pytest.approx(values) and together[0] is None


def test_a_method_that_needs_losses_has_them_from_it(server: Live, model: lengthwise.Model) -> None:
    remote = lengthwise.connect(f"{server.url}/v1", "tiny")
    remote.tokenizer = model.tokenizer
    here, text = LocalText(model), "A cafe in which nobody sat. " * 8 + "\u00e9\U0001f600 end"
    assert remote.losses(text).tolist() == pytest.approx(here.losses(text).tolist(), abs=1e-4)
    chosen = "llmlingua(budget=96, segment=256)"
    there, found = (
        lengthwise.answer(each, text, "Who sat?", chosen, max_new_tokens=2)
        for each in (remote, model)
    )
    assert [each.text for each in there.sources] == [each.text for each in found.sources]


def test_a_chat_has_no_echo(client: httpx.Client) -> None:
    answer = client.post(CHAT, json={"messages": HI, "echo": True})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "echo"
