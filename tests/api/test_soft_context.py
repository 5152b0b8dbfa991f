"""Soft contexts as sessions: what they hold, say, refuse, and how raw tokens become embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import lengthwise
from lengthwise.api.prefixes import prefix_cache_of
from lengthwise.api.session import Session
from lengthwise.engine.given import entries_of
from lengthwise.errors import LengthwiseError, Refused, SessionError
from lengthwise.recipes.registry import find
from lengthwise.soft_contexts.base import SoftContext
from lengthwise.soft_contexts.dolphin import Dolphin
from lengthwise.soft_contexts.extensible import Extensible
from lengthwise.testing.tiny import tiny_model, tokens
from tests.chat_models import TEMPLATE, chat_model
from tests.soft_contexts.soft_cases import ASKED, BOTH, EXTENSIBLE, TEXT, opened, stored

LONG = TEXT * 3


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return chat_model()


def said(session: Session, count: int = 6) -> list[int]:
    return session.ask(ASKED, max_new_tokens=count).token_ids


@pytest.mark.parametrize("how", BOTH, ids=str)
def test_a_session_holds_an_entry_an_embedding(model: lengthwise.Model, how: SoftContext) -> None:
    session = opened(model, how).read(LONG)
    about = session.source.trained
    assert about is not None and about["method"] == how.name
    assert about["tokens"] == len(model.encode(LONG))
    around = len(session) - about["entries"]
    assert about["entries"] < about["tokens"] / 1.9 and around < 12
    per_token = session.nbytes / len(session)
    assert per_token == pytest.approx(model.adapted.bytes_per_token, rel=0.1)
    found = session.ask(ASKED, max_new_tokens=4)
    assert found.metrics.reused_tokens == len(session)
    many = session.ask_batch([ASKED, "When?"], max_new_tokens=4)
    assert many[0].token_ids == found.token_ids


@pytest.mark.parametrize("template", [TEMPLATE, None], ids=["template", "text"])
def test_a_question_stands_where_it_would_behind_the_text(template: str | None) -> None:
    model = chat_model(template)
    session = opened(model, Extensible(layers=0)).read(TEXT, ratio=1)
    text = TEXT.strip("\n")
    plain = model.read(text)
    ids = session.source.ask(model, ASKED, None)
    assert ids == plain.source.ask(model, ASKED, None)
    assert said(session) == model.generate(ids, max_new_tokens=6).token_ids


@pytest.mark.parametrize("how", BOTH, ids=str)
def test_a_file_says_how_it_was_encoded_and_comes_back(
    model: lengthwise.Model, tmp_path: Path, how: SoftContext
) -> None:
    encoder = lengthwise.open_encoder(stored(model, how, tmp_path / "made.encoder"), model)
    session, path = encoder.read(LONG, "lookup"), tmp_path / "made.session"
    session.save(path)
    with safe_open(path, framework="pt") as file:
        manifest = json.loads(file.metadata()["lengthwise"])
    assert manifest["trained"]["encoder"] == str(how) and manifest["trained"]["steps"] == 7
    other = lengthwise.open_session(path, model)
    assert other.tokens == session.tokens and said(other) == said(session)
    after = tokens(9)
    assert torch.equal(other.score(after), session.score(after))
    other.append(" And Ivo came.")
    assert len(other) > len(session) and other.source.trained == session.source.trained
    assert said(other)


METHODS = ("lookup", "recycling", "kivi", "int8", "snapkv", "h2o", "streaming", "quest", "infllm",
           "yarn")  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_recipes_act_on_embeddings_as_on_tokens(model: lengthwise.Model, name: str) -> None:
    """Of the embedding layer, one a token: what a session of the text itself says."""
    recipe = str(find(name).example())
    ids, after = tokens(80), tokens(6, seed=2)
    encoder = opened(model, Extensible(layers=0))
    session, plain = encoder.read(ids, recipe, ratio=1), model.read(ids, recipe)
    mine, theirs = (each.ask(after, max_new_tokens=5).token_ids for each in (session, plain))
    assert mine == theirs
    assert encoder.read(ids, recipe, ratio=4).ask(after, max_new_tokens=3).token_ids


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("sirllm(budget=24)", "asks how likely each token was"),
        ("kvzip(budget=24, sinks=1, recent=4)", "has the model repeat the tokens"),
        ("dynamic_ntk(factor=2)", "reads all tokens again when the text gets longer"),
        ("ape", "this is one text"),
    ],
)
def test_what_asks_for_tokens_is_refused(model: lengthwise.Model, recipe: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        opened(model, EXTENSIBLE).read(LONG, recipe)


def test_a_model_whose_frequencies_change_is_refused() -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    growing = lengthwise.wrap(tiny_model("llama", rope_parameters=rope))
    with pytest.raises(Refused, match="changes its rotary frequencies at 256 tokens"):
        opened(growing, EXTENSIBLE).read(tokens(20))


def test_bad_input_is_refused(model: lengthwise.Model) -> None:
    encoder = opened(model, EXTENSIBLE)
    with pytest.raises(LengthwiseError, match="the document is empty"):
        encoder.read(" \n")
    with pytest.raises(LengthwiseError, match="raw=-1"):
        encoder.read(LONG, raw=-1)
    with pytest.raises(LengthwiseError, match="chunk=0"):
        encoder.read(LONG, chunk=0)
    bare = lengthwise.wrap(tiny_model("llama"))
    with pytest.raises(LengthwiseError, match="without a tokenizer"):
        opened(bare, EXTENSIBLE).read(LONG)
    learned = lengthwise.wrap(tiny_model("gpt2"))
    with pytest.raises(Refused, match="learned positions"):
        opened(learned, EXTENSIBLE).read(tokens(3000), ratio=2)


def test_chunks_of_the_model_change_nothing(model: lengthwise.Model) -> None:
    encoder = opened(model, EXTENSIBLE)
    one, other = (encoder.read(LONG, chunk=chunk) for chunk in (None, 7))
    for mine, theirs in zip(entries_of(one.held), entries_of(other.held), strict=True):
        assert torch.allclose(mine.key, theirs.key, atol=1e-5)
    assert said(one) == said(other)


def test_entries_of_embeddings_are_no_other_texts() -> None:
    model = chat_model()
    model.prefix_cache = prefix_cache_of(model.adapted, "64MiB")
    ids = tokens(40)
    encoder = opened(model, Extensible(layers=1, chunk=64))
    session = encoder.read(ids, ratio=1)
    assert session.tokens == ids
    session.ask(tokens(4), max_new_tokens=2)
    found = model.generate([*ids, *tokens(4)], max_new_tokens=2)
    assert found.metrics.reused_tokens == 0
    with pytest.raises(LengthwiseError, match="entries are not those of its token ids"):
        lengthwise.Pieces(model).add(session)


# The last tokens, and what becomes of them.


def test_last_tokens_are_read_as_tokens(model: lengthwise.Model) -> None:
    ids, encoder = tokens(60), opened(model, EXTENSIBLE)
    session = encoder.read(ids, ratio=4, raw=20)
    assert session.tokens[-20:] == ids[-20:] and len(session) == 10 + 20
    whole = encoder.read(ids, raw=60)
    assert whole.tokens == ids
    after = tokens(6, seed=3)
    assert torch.allclose(whole.score(after), model.read(ids).score(after), atol=1e-5)


def test_raw_tokens_are_compressed_behind_what_was(model: lengthwise.Model) -> None:
    """With one embedding a token of the embedding layer nothing changes; else it gets shorter."""
    ids, more, after = tokens(32), tokens(40, seed=1), tokens(6, seed=3)
    encoder = opened(model, Extensible(layers=0))
    session = encoder.read(ids, ratio=1)
    session.append(more)
    same = encoder.compress_raw(session, keep=8, ratio=1)
    assert same.tokens == session.tokens
    assert torch.allclose(same.score(after), session.score(after), atol=1e-5)
    short = encoder.compress_raw(session, keep=8, ratio=4)
    assert len(session) == 72 and len(short) == 32 + 8 + 8
    assert short.tokens[-8:] == more[-8:]
    about = short.source.trained
    assert about is not None and (about["tokens"], about["entries"]) == (64, 40)
    short.append(more)
    assert len(encoder.compress_raw(short, keep=8, ratio=4)) == 32 + 8 + 10 + 8


def test_what_cannot_be_compressed_is_refused(model: lengthwise.Model) -> None:
    encoder = opened(model, EXTENSIBLE)
    with pytest.raises(SessionError, match="holds no soft embeddings"):
        encoder.compress_raw(model.read(LONG), keep=4)
    session = encoder.read(tokens(40))
    with pytest.raises(SessionError, match="so none is left to encode"):
        encoder.compress_raw(session, keep=4)
    moved = encoder.read(tokens(40), "h2o", raw=20)
    with pytest.raises(Refused, match="has moved, summed or left out"):
        encoder.compress_raw(moved, keep=4)
    with pytest.raises(LengthwiseError, match="keep=0"):
        encoder.compress_raw(session, keep=0)


def test_embeddings_can_be_kept_and_printed(model: lengthwise.Model) -> None:
    encoder = opened(model, Dolphin(tokens=4, layers=1))
    assert encoder.encode(LONG).shape == (4, model.adapted.model.config.hidden_size)
    assert "dolphin(tokens=4, layers=1)" in repr(encoder)
