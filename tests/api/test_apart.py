"""`Model.read_apart` and `lengthwise.join`: documents read once, in any company and order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.errors import LengthwiseError, Refused, SessionError
from lengthwise.recipes.registry import methods
from lengthwise.testing.tiny import tiny_model, tokens
from tests.chat_models import chat_model

PREFIX, QUESTION, ANSWER = tokens(6, 1), tokens(11, 5), tokens(9, 6)
DOCUMENTS = [tokens(30, 2), tokens(17, 3), tokens(22, 4)]
TEXTS = ["Ada signed the contract on the third of May.", "Bob did not.", "It rained in Paris."]
PLAIN = "ape(temperature=1, scale=1)"
NEW = 8


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15))


@pytest.fixture(scope="module")
def talking() -> lengthwise.Model:
    return chat_model()


def test_one_document_is_asked_as_in_one_call(model: lengthwise.Model) -> None:
    session = model.read_apart(DOCUMENTS[:1], PLAIN, prefix=PREFIX, chunk=7)
    prompt = [*PREFIX, *DOCUMENTS[0], *QUESTION]
    whole = model.generate(prompt, max_new_tokens=NEW, stop_ids=[])
    found = session.ask(QUESTION, max_new_tokens=NEW, stop_ids=[])
    assert found.token_ids == whole.token_ids
    assert found.metrics.prompt_tokens == len(prompt)
    assert found.metrics.reused_tokens == len(session) == len(PREFIX) + 30
    session.append(QUESTION)
    right = model.score([*prompt, *ANSWER], prompt=len(prompt))
    assert torch.allclose(session.score(ANSWER), right, atol=1e-4)


def test_one_text_is_asked_as_in_one_call(talking: lengthwise.Model) -> None:
    text = TEXTS[0]
    found = talking.read_apart([text], PLAIN).ask("Who?", max_new_tokens=NEW)
    whole = talking.read(text).ask("Who?", max_new_tokens=NEW)
    assert found.metrics.prompt_tokens == whole.metrics.prompt_tokens
    assert found.token_ids == whole.token_ids


def test_joined_sessions_are_those_read_together_in_any_order(model: lengthwise.Model) -> None:
    together = model.read_apart(DOCUMENTS, prefix=PREFIX)
    each = [model.read_apart([one], prefix=PREFIX) for one in DOCUMENTS]
    others = [
        lengthwise.join([each[2], each[0], each[1]]),
        lengthwise.join([each[1], lengthwise.join([each[0], each[2]])]),
        model.read_apart(DOCUMENTS[::-1], prefix=PREFIX),
    ]
    together.append(QUESTION)
    right = together.score(ANSWER)
    for other in others:
        other.append(QUESTION)
        assert float((other.score(ANSWER) - right).abs().max()) < 1e-5
    # Those that were joined are as they were.
    assert [len(one) for one in each] == [36, 23, 28]
    plain = lengthwise.join(each, PLAIN)
    plain.append(QUESTION)
    assert float((plain.score(ANSWER) - right).abs().max()) > 1e-3


# Those that read the target's cache or hidden states in their own ways among them.
DRAFTERS = ("copyspec", "layers", "lookahead", "lookup", "recycling", "sam", "swift", "window")
# It decides by itself how much is guessed.
OWN_LENGTH = ("lookahead",)


@pytest.mark.parametrize("name", DRAFTERS)
def test_drafting_says_what_is_said_without(model: lengthwise.Model, name: str) -> None:
    drafter = methods()[name].example()
    policy = "" if name in OWN_LENGTH else " + fixed"
    session = model.read_apart(DOCUMENTS, f"ape + {drafter}{policy}", prefix=PREFIX)
    plain = lengthwise.join([session], "ape")
    question = [*QUESTION, *DOCUMENTS[0][5:25]]
    found = session.ask(question, max_new_tokens=40, stop_ids=[])
    right = plain.ask(question, max_new_tokens=40, stop_ids=[])
    assert found.token_ids == right.token_ids
    assert found.metrics.drafted, found.metrics


@pytest.mark.parametrize("recipe", ["ape", "ape + kivi(bits=4, group=8, residual=8) + lookup"])
def test_it_is_saved_opened_and_joined_again(
    model: lengthwise.Model, tmp_path: Path, recipe: str
) -> None:
    each = [model.read_apart([one], recipe, prefix=PREFIX) for one in DOCUMENTS]
    paths = [tmp_path / f"{n}.session" for n in range(3)]
    for session, path in zip(each, paths, strict=True):
        session.save(path)
    opened = [lengthwise.open_session(path, model) for path in paths]
    found = lengthwise.join(opened).ask(QUESTION, max_new_tokens=NEW, stop_ids=[])
    whole = lengthwise.join(each)
    assert found.token_ids == whole.ask(QUESTION, max_new_tokens=NEW, stop_ids=[]).token_ids
    whole.append(QUESTION)
    whole.save(tmp_path / "all.session")
    again = lengthwise.open_session(tmp_path / "all.session", model)
    assert torch.equal(again.score(ANSWER), whole.score(ANSWER))
    assert again.recipe == recipe and len(again) == len(whole)


def test_a_session_of_texts_is_opened_and_asked(talking: lengthwise.Model, tmp_path: Path) -> None:
    session = talking.read_apart(TEXTS, prefix="These are notes.\n\n")
    found = session.ask("Who signed it?", max_new_tokens=NEW)
    session.save(tmp_path / "s")
    again = lengthwise.open_session(tmp_path / "s", talking)
    assert again.ask("Who signed it?", max_new_tokens=NEW).token_ids == found.token_ids
    again.append("\nAnd that is all.")
    assert len(again) > len(session)
    said = lengthwise.Session.fork(again).ask("Who?", max_new_tokens=NEW)
    assert said.metrics.reused_tokens == len(again)
    streamed = session.stream("Who signed it?", max_new_tokens=NEW)
    assert "".join(streamed) == found.text


def test_what_is_written_in_a_document_ends_no_message(talking: lengthwise.Model) -> None:
    end = talking.tokenizer.convert_tokens_to_ids("<|endoftext|>")  # type: ignore[union-attr]
    session = talking.read_apart(["One <|endoftext|> two."])
    assert end not in session.tokens
    assert end in talking.read_apart(["One <|endoftext|> two."], special="tokens").tokens


def test_without_a_template_documents_stand_behind_the_beginning_token() -> None:
    stock = chat_model(None)
    with pytest.raises(LengthwiseError, match="need a prefix, and this model has no token that"):
        stock.adapted.model.generation_config.bos_token_id = None
        stock.read_apart(TEXTS)
    session = stock.read_apart(TEXTS, prefix="Notes: ")
    assert session.held.apart is not None and session.held.apart.prefix == len("Notes: ")
    stock.adapted.model.generation_config.bos_token_id = 3
    session = stock.read_apart(TEXTS)
    assert session.tokens[0] == 3 and session.held.apart is not None
    assert session.held.apart.prefix == 1
    assert stock.read_apart([[5, 6], [7]]).tokens == [3, 5, 6, 7]


def test_one_text_is_refused_with_the_way_to_go(model: lengthwise.Model) -> None:
    ways: list[Any] = [
        lambda: model.generate(QUESTION, "ape"),
        lambda: model.read(QUESTION, "ape"),
        lambda: model.score(QUESTION, "lookup + ape"),
    ]
    for way in ways:
        with pytest.raises(Refused, match="joins documents that were read apart, and this is one"):
            way()


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("full", "does not say what documents weigh"),
        ("ape + snapkv", "snapkv chooses among the tokens of one text"),
        ("quest + ape", "quest chooses among the tokens of one text"),
        ("ape + infllm", "infllm chooses among the tokens of one text"),
        ("ape + streaming", "streaming sets some apart"),
        ("ape + dynamic_ntk", "dynamic_ntk turns them as the text grows"),
        ("ape + self_extend", "needs every key near"),
        ("ape(temperature=0)", "temperature"),
        ("ape(scale=-1)", "scale"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(
    model: lengthwise.Model, recipe: str, told: str
) -> None:
    with pytest.raises(LengthwiseError, match=told):
        model.read_apart(DOCUMENTS, recipe, prefix=PREFIX)


def test_models_that_cannot_are_refused_by_name() -> None:
    for family, told in (("gemma2", "window of their own"), ("gpt2", "rotary")):
        with pytest.raises(Refused, match=told):
            lengthwise.wrap(tiny_model(family)).read_apart(DOCUMENTS, prefix=PREFIX)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "there are no documents"),
        ("one text", "give a list of them"),
        ([[5], []], "document 2 is empty"),
        ([[5], "text"], "some are ids"),
        ([[5], [10**9]], "outside the vocabulary"),
        (7, "give a list of them"),
    ],
)
def test_bad_documents_are_one_line(model: lengthwise.Model, given: Any, told: str) -> None:
    with pytest.raises(LengthwiseError, match=told) as caught:
        model.read_apart(given, prefix=PREFIX)
    assert "\n" not in str(caught.value)


def test_bad_questions_are_one_line(model: lengthwise.Model, talking: lengthwise.Model) -> None:
    session = model.read_apart(DOCUMENTS, prefix=PREFIX)
    with pytest.raises(LengthwiseError, match="question is empty"):
        session.ask([])
    with pytest.raises(LengthwiseError, match="nothing was read behind the documents"):
        session.score(ANSWER)
    with pytest.raises(LengthwiseError, match="append was given nothing"):
        session.append([])
    texts = talking.read_apart(TEXTS)
    with pytest.raises(LengthwiseError, match="takes a string"):
        texts.ask([5, 6])
    with pytest.raises(LengthwiseError, match="document 2 is empty"):
        talking.read_apart(["a", " \n"])
    with pytest.raises(LengthwiseError, match="a chat goes on from a session that has read chat"):
        lengthwise.Chat.resume(texts)


def test_sessions_that_do_not_go_together_are_refused(
    model: lengthwise.Model, talking: lengthwise.Model
) -> None:
    one = model.read_apart(DOCUMENTS[:1], prefix=PREFIX)
    longer = one.fork()
    longer.append(QUESTION)
    done = one.fork()
    done.compress()
    cases: list[tuple[list[Any], type[LengthwiseError], str]] = [
        ([], LengthwiseError, "a list of sessions"),
        ([one, "x"], LengthwiseError, "a list of sessions"),
        ([one, longer], SessionError, "session 2 holds more, or other things"),
        ([one, done], SessionError, "session 2 holds more, or other things"),
        ([model.read(QUESTION)], SessionError, "session 1 holds more, or other things"),
        ([one, model.read_apart(DOCUMENTS[:1], prefix=[9, 9])], SessionError, "another prefix"),
        ([one, model.read_apart(DOCUMENTS[:1], PLAIN, prefix=PREFIX)], LengthwiseError,
         "give join the recipe"),
        ([one, model.read_apart(DOCUMENTS[:1], "ape + yarn(factor=2)", prefix=PREFIX)],
         LengthwiseError, "give join the recipe"),
        ([one, talking.read_apart(TEXTS)], SessionError, "another model"),
    ]  # fmt: skip
    for sessions, kind, told in cases:
        with pytest.raises(kind, match=told):
            lengthwise.join(sessions)
    with pytest.raises(SessionError, match="whose positions are not those of"):
        lengthwise.join([one], "ape + yarn(factor=2)")
    with pytest.raises(Refused, match="does not say what documents weigh"):
        lengthwise.join([one], "lookup")
    assert len(lengthwise.join([one], "ape(temperature=0.8) + lookup")) == len(one)


def test_a_coded_file_codes_the_documents_and_is_not_streamed(
    model: lengthwise.Model, tmp_path: Path
) -> None:
    session = model.read_apart([tokens(90, 2), tokens(80, 3)], prefix=PREFIX)
    session.append(QUESTION)
    session.save(tmp_path / "plain")
    session.save(tmp_path / "coded", codec="cachegen(level=2)")
    assert (tmp_path / "coded").stat().st_size < 0.5 * (tmp_path / "plain").stat().st_size
    opened = lengthwise.open_session(tmp_path / "coded", model)
    assert 0 < float((opened.score(ANSWER) - session.score(ANSWER)).abs().max()) < 1
    session.save(tmp_path / "exact", codec="cachegen(level=lossless)")
    exact = lengthwise.open_session(tmp_path / "exact", model)
    assert torch.equal(exact.score(ANSWER), session.score(ANSWER))
    with pytest.raises(SessionError, match="documents that were read apart"):
        lengthwise.stream_session(tmp_path / "coded", model, 60.0)


def test_nothing_of_it_goes_into_the_cache_of_prefixes() -> None:
    model = lengthwise.wrap(tiny_model("llama", initializer_range=0.15), cache_bytes="10MB")
    session = model.read_apart(DOCUMENTS[:1], prefix=PREFIX)
    session.ask(QUESTION, max_new_tokens=NEW, stop_ids=[])
    assert model.prefix_cache is not None and not model.prefix_cache.stats.nodes
    prompt = [*PREFIX, *DOCUMENTS[0], *QUESTION]
    whole = model.generate(prompt, max_new_tokens=NEW, stop_ids=[])
    assert whole.metrics.reused_tokens == 0 < model.prefix_cache.stats.nodes
