"""A model behind a server: what it is asked, what it costs, and what goes wrong at servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import lengthwise
from lengthwise.api import connecting, remote_model
from lengthwise.api.connecting import connect, remote
from lengthwise.api.remote_model import UNKNOWN_LENGTH, Asked, RemoteModel, asked_as
from lengthwise.api.server_errors import ServerError
from lengthwise.errors import LengthwiseError, ModelError, Refused
from lengthwise.evaluation.compare.comparison import EvaluationProgress, compare
from lengthwise.methods.prompts import LogitModel
from lengthwise.models.embedded import embedded_tokenizer
from tests.remote_server import Reply, Scripted, nonsense, says, send, silence, status

pytest.importorskip("openai")
TEXT = "\n\n".join(f"The keeper of tower {n} is called {n * n}." for n in range(40))
Opened = Callable[..., tuple[RemoteModel, Scripted]]


@cache
def tokenizer() -> Any:
    return embedded_tokenizer()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(remote_model.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(connecting, "embedded_tokenizer", tokenizer)
    servers: list[Scripted] = []

    def open_(*replies: Reply, retries: int = 2, **about: Any) -> tuple[RemoteModel, Scripted]:
        timeout = about.pop("timeout_s", 30.0)
        servers.append(Scripted(*replies, models=about))
        model = connect(servers[-1].url, retries=retries, timeout_s=timeout)
        return model, servers[-1]

    yield open_
    for each in servers:
        each.close()


def test_it_is_a_model_of_text(opened: Opened) -> None:
    model, server = opened(says("It", " is", " 529."), max_model_len=4096)
    assert isinstance(model, LogitModel)
    assert (model.name, model.trained_length, model.url) == ("parrot", 4096, server.url)
    assert model.count("two words") == 2 and "tokenizer of SmolLM2" in model.notes[0]
    pieces: list[str] = []
    assert model.write("A text.", "Who?", 7, pieces.append) == "It is 529."
    assert pieces == ["It", " is", " 529."] and model.tokens_read == 40
    (asked,) = server.asked
    assert asked["messages"] == [{"role": "user", "content": "A text.\n\nWho?"}]
    assert (asked["max_tokens"], asked["temperature"], asked["model"]) == (7, 0.0, "parrot")
    model.write("", "Who?", 7)
    assert server.asked[1]["messages"][0]["content"] == "Who?"


def test_what_is_read_is_chosen_here(opened: Opened) -> None:
    model, server = opened(says("529"))
    found = lengthwise.answer(model, TEXT, "Who keeps tower 23?", "bm25(budget=60, passage=20)")
    sent = server.asked[0]["messages"][0]["content"]
    assert "tower 23 is called 529" in sent and len(sent) < len(TEXT) / 4
    assert all(each.text in TEXT for each in found.sources) and found.text == "529"
    assert found.metrics.prompt_tokens == 40 == found.metrics.tokens_read
    assert found.metrics.ttft_s > 0 and found.metrics.finish_reason == "stop"


def test_what_acts_within_a_model_is_refused(opened: Opened) -> None:
    model, server = opened(says("no"))
    for recipe in ("kivi(bits=4)", "bm25(budget=60) + snapkv"):
        with pytest.raises(Refused, match="acts within a model, and parrot is behind a server"):
            lengthwise.answer(model, TEXT, "Who?", recipe)
    with pytest.raises(Refused, match="chunk=64 is for a model that runs here"):
        lengthwise.answer(model, TEXT, "Who?", chunk=64)
    with pytest.raises(ModelError, match="is behind a server, and this needs a model"):
        lengthwise.load(f"openai:{server.url}")
    assert not server.asked


def test_options_go_as_the_server_knows_them(opened: Opened) -> None:
    model, server = opened(says("yes"))
    lengthwise.answer(
        model, TEXT, "Who?", temperature=0.5, top_k=4, seed=3, stop=["\n"], max_new_tokens=9,
        min_p=0.0,
    )  # fmt: skip
    (asked,) = server.asked
    assert (asked["temperature"], asked["top_k"], asked["seed"]) == (0.5, 4, 3)
    assert asked["stop"] == ["\n"] and asked["max_tokens"] == 9 and "min_p" not in asked
    assert asked_as(model, {"seed": 7}) == Asked()
    for wrong in ({"temperature": -1.0}, {"max_new_tokens": 0}, {"stop": 3}):
        with pytest.raises(LengthwiseError):
            asked_as(model, wrong)


@pytest.mark.parametrize(
    "failing",
    [status(429), status(500), status(503), nonsense("hello"), nonsense("{}"), nonsense('{"a": 1}'),
     says(end=False), says("half a", end=False)],
)  # fmt: skip
def test_a_server_that_comes_to_itself_is_asked_again(opened: Opened, failing: Reply) -> None:
    model, server = opened(failing, failing, says("Well."))
    assert model.write(TEXT, "Who?", 5) == "Well." and len(server.asked) == 3


@pytest.mark.parametrize(
    ("failing", "said", "times"),
    [
        (status(429), "answers 429: .*busy; it stayed busy however often", 3),
        (status(500), "answers 500: .*; see what the server logs", 3),
        (status(400, "too long"), "answers 400: .*too long; change what is asked", 1),
        (status(401, "no key"), "answers 401: .*set OPENAI_API_KEY", 1),
        (nonsense("hello"), "does not answer as OpenAI's servers do", 3),
        (says(end=False), "does not answer as OpenAI's servers do: it broke off", 3),
    ],
)
def test_one_that_does_not_is_one_clear_error(
    opened: Opened, failing: Reply, said: str, times: int
) -> None:
    model, server = opened(failing)
    with pytest.raises(ServerError, match=said) as caught:
        model.write(TEXT, "Who?", 5)
    assert len(server.asked) == times and "\n" not in str(caught.value)


def test_what_a_user_has_seen_is_not_said_again(opened: Opened) -> None:
    model, server = opened(says("half a", end=False))
    seen: list[str] = []
    with pytest.raises(ServerError, match="behind 6 characters"):
        model.write(TEXT, "Who?", 5, seen.append)
    assert seen == ["half a"] and len(server.asked) == 1


def test_who_has_enough_ends_the_answer_and_is_no_failure(opened: Opened) -> None:
    class Enough(Exception):
        pass

    def two(piece: str) -> None:
        seen.append(piece)
        if len(seen) == 2:
            raise Enough

    model, server = opened(says("a", " b", " c"))
    seen: list[str] = []
    with pytest.raises(Enough):
        model.write("A text.", "Who?", 5, two)
    assert seen == ["a", " b"] and len(server.asked) == 1
    # What was read until then is counted.
    assert model.tokens_read == model.count("A text.\n\nWho?")


def test_a_failed_call_has_read_nothing(opened: Opened) -> None:
    model, _ = opened(status(400))
    with pytest.raises(ServerError):
        model.write(TEXT, "Who?", 5)
    assert model.tokens_read == 0


@pytest.mark.parametrize("plain", [True, False])
def test_a_server_that_tells_no_probabilities_is_refused_at_once(
    opened: Opened, plain: bool
) -> None:
    choice = {"index": 0, "finish_reason": "length", "logprobs": None, "text": "a",
              "message": {"role": "assistant", "content": "a"}}  # fmt: skip
    body = {"id": "1", "object": "x", "created": 0, "model": "parrot", "choices": [choice]}
    model, server = opened(lambda h, _: send(h, 200, body), status(404), status(503))
    for _ in range(2):
        with pytest.raises(Refused, match="does not tell the probabilities"):
            model.foretell(TEXT, "Who?", 1, plain)
    with pytest.raises(ServerError, match="answers 503"):
        model.foretell(TEXT, "Who?", 1, plain)
    assert len(server.asked) == 2 + 3


def test_a_server_that_knows_no_echo_gives_no_losses(opened: Opened) -> None:
    logs = {"tokens": ["!"], "text_offset": [0], "token_logprobs": [-1.0], "top_logprobs": None}
    choice = {"index": 0, "text": "!", "finish_reason": "length", "logprobs": logs}
    body = {"id": "1", "object": "x", "created": 0, "model": "parrot", "choices": [choice]}
    model, _ = opened(lambda h, _: send(h, 200, body))
    with pytest.raises(Refused, match="does not tell the losses of a text"):
        model.losses("two words here")


def test_a_silent_server_is_named(opened: Opened) -> None:
    model, server = opened(silence(1.0), retries=1, timeout_s=0.2)
    with pytest.raises(ServerError, match="did not answer in time"):
        model.write(TEXT, "Who?", 5)
    assert len(server.asked) == 2


def test_without_usage_tokens_are_counted_here(opened: Opened) -> None:
    model, _ = opened(says("Four", " words", usage=False))
    found = model.ask("A text.", "Who?", Asked(5))
    assert found.metrics.prompt_tokens == model.count("A text.\n\nWho?")
    assert "did not say how many tokens" in found.metrics.notes[0]


def test_probabilities_are_those_that_the_server_tells(opened: Opened) -> None:
    tops = [{"token": t, "logprob": p, "bytes": None} for t, p in (("a", -0.7), ("b", -0.1))]
    content = [{"token": "a", "logprob": -0.1, "bytes": None, "top_logprobs": tops}]
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    head = {"id": "1", "created": 0, "model": "parrot", "usage": usage}
    message = {"role": "assistant", "content": "a"}
    chat = head | {"object": "chat.completion", "choices": [
        {"index": 0, "message": message, "finish_reason": "length",
         "logprobs": {"content": content, "refusal": None}}]}  # fmt: skip
    logs = {"tokens": ["a"], "token_logprobs": [-0.1], "text_offset": [0],
            "top_logprobs": [{"a": -0.1, "b": -2.0, "c": -3.0}]}  # fmt: skip
    plain = head | {"object": "text_completion", "choices": [
        {"index": 0, "text": "a", "finish_reason": "length", "logprobs": logs}]}  # fmt: skip
    model, server = opened(lambda h, _: send(h, 200, chat), lambda h, _: send(h, 200, plain))
    assert model.foretell(TEXT, "Who?", 1).tolist()[0] == pytest.approx([-0.1, -0.7])
    found = model.foretell(TEXT, "Who?", 1, plain=True)
    assert found.tolist()[0] == pytest.approx([-0.1, -2.0, -3.0])
    assert server.asked[1]["prompt"].endswith("39 is called 1521.\nWho?")
    assert model.tokens_read == 10


def test_losses_stand_at_the_tokens_in_which_the_server_s_begin(opened: Opened) -> None:
    text = "two words here"
    logs = {"tokens": ["two w", "ords", " he", "re", "!"], "text_offset": [0, 5, 9, 12, 14],
            "token_logprobs": [None, -1.0, -2.0, -4.0, -8.0], "top_logprobs": None}  # fmt: skip
    reply = {"id": "1", "object": "text_completion", "created": 0, "model": "parrot", "choices": [
        {"index": 0, "text": text + "!", "finish_reason": "length", "logprobs": logs}]}  # fmt: skip
    model, server = opened(lambda h, _: send(h, 200, reply), status(400, "echo is not served"))
    assert [text[a:b] for a, b in model.spans(text)] == ["two", " words", " here"]
    assert model.losses(text).tolist() == [0.0, 1.0, 6.0] and server.asked[0]["echo"] is True
    with pytest.raises(Refused, match="does not tell the losses of a text"):
        model.losses(text)
    assert model.losses("").tolist() == []


def test_addresses_and_names_that_are_none(opened: Opened) -> None:
    model, server = opened(says("yes"))
    assert model.trained_length == UNKNOWN_LENGTH
    found = remote(f"openai:{server.url}#parrot")
    assert found is not None and found.name == "parrot"
    assert remote(None) is None and remote("some/folder") is None
    for name, said in (
        ("openai:127.0.0.1/v1", "is no address"),
        (f"openai:{server.url}#raven", "has no model 'raven'; it has parrot"),
    ):
        with pytest.raises(LengthwiseError, match=said):
            remote(name)
    with pytest.raises(ServerError, match="no server answers at"):
        connect("http://127.0.0.1:9/v1", retries=0)
    with pytest.raises(ModelError, match="no tokenizer can be read"):
        connect(server.url, tokenizer="/nowhere")


def test_compare_has_rows_of_a_server(opened: Opened) -> None:
    model, server = opened(says("It is 529."), max_model_len=4096)
    asked = [{"question": "Who keeps tower 23?", "answer": "529",
              "evidence": "The keeper of tower 23 is called 529."}]  # fmt: skip
    recipes = ["bm25(budget=60, passage=20)", "kivi", "llmlingua(budget=50%)"]
    server.replies = [says("It is 529.")] * 2 + [status(400, "no echo")]
    rows = compare(model, TEXT, (), recipes, qa=asked)
    full, chosen, kivi, lingua = rows
    assert full.answer == chosen.answer == "It is 529." and full.device == server.url
    assert chosen.evidence_recall == 1 == chosen.expected_found and chosen.kv_bytes is None
    assert chosen.token_f1 == pytest.approx(2 / 4) and full.tokens_read == 40
    assert "acts within a model" in str(kivi.refused)
    assert "does not tell the losses" in str(lingua.refused)
    assert "bm25" in repr(rows) and "529" in rows.to_html() and rows.trained_length == 4096
    unknown, _ = opened(says("529."))
    assert compare(unknown, TEXT, "Who?").trained_length is None
    with pytest.raises(Refused, match="tells no losses"):
        compare(model, TEXT, (), recipes, probes=True)
    with pytest.raises(LengthwiseError, match="is more than the"):
        compare(model, TEXT, "Who?", recipes, 10**6)


def test_rows_that_are_done_are_kept_when_the_server_fails(opened: Opened) -> None:
    told: list[str] = []

    class Told(EvaluationProgress):
        def note(self, text: str) -> None:
            told.append(text)

    model, server = opened(says("529."), status(500), retries=0)
    rows = compare(model, TEXT, ["Who?", "Where?"], progress=Told())
    assert [row.answer for row in rows] == ["529."] and rows.interrupted
    assert "stopped: " in told[-1] and "answers 500" in told[-1]
    with pytest.raises(ServerError):
        compare(model, TEXT, "Who?")


def test_long_answers_and_labels_are_asked_of_a_server(opened: Opened, tmp_path: Path) -> None:
    text = "Sow the beans in May, and water them. " * 2
    model, server = opened(says(text), max_model_len=4096)
    found = lengthwise.write(model, "Write a guide.", 14, temperature=0.5, seed=3)
    assert found.text.startswith("Sow the beans") and "repetition_penalty" not in server.asked[0]
    assert (server.asked[0]["temperature"], server.asked[0]["seed"]) == (0.5, 3)
    lengthwise.write(model, "Write a guide.", 14, repetition_penalty=1.2)
    assert server.asked[-1]["repetition_penalty"] == 1.2
    with pytest.raises(Refused, match="acts within a model"):
        lengthwise.write(model, "Write a guide.", 14, recipe="kivi")

    # One batch is done, then the server fails: what is done is kept, and the rest goes on.
    out, items = tmp_path / "labels.jsonl", ["good soup", "bad bread", "good tea", "bad milk"]
    sure = says("1: yes, confident\n2: yes, confident")
    server.asked.clear()
    server.replies = [sure, sure, status(400, "no more")]
    with pytest.raises(LengthwiseError, match="no more"):
        lengthwise.label(model, items, "Is it good?", ["yes", "no"], size=2, rounds=3, out=out)
    assert len(out.read_text().splitlines()) == 2
    server.replies = [sure]
    done = lengthwise.label(model, items, "Is it good?", ["yes", "no"], size=2, rounds=3, out=out)
    assert done.before == 2 and len(done.labels) == 4 and None not in done.labels
