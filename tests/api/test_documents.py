"""`Model.read_apart` under pine and v2pe: documents in no order, and in fractional steps."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch

import lengthwise
from lengthwise.errors import LengthwiseError, Refused, SessionError
from lengthwise.testing.tiny import tiny_model, tokens
from tests.chat_models import chat_model

PREFIX, QUESTION, ANSWER = tokens(6, 1), tokens(11, 5), tokens(9, 6)
DOCUMENTS = [tokens(30, 2), tokens(17, 3), tokens(22, 4)]
TEXTS = ["Ada signed the contract on the third of May.", "Bob did not.", "It rained in Paris."]
NEW = 8


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15))


@pytest.fixture(scope="module")
def talking() -> lengthwise.Model:
    return chat_model()


def scored(session: lengthwise.Session) -> torch.Tensor:
    session.append(QUESTION)
    return session.score(ANSWER)


def test_every_order_of_documents_gives_the_same_bits(model: lengthwise.Model) -> None:
    found = [
        scored(model.read_apart(list(each), "pine", prefix=PREFIX))
        for each in permutations(DOCUMENTS)
    ]
    assert all(torch.equal(each, found[0]) for each in found)
    read = [t for each in DOCUMENTS for t in each]
    whole = model.score([*PREFIX, *read, *QUESTION, *ANSWER],
                        prompt=len(PREFIX) + len(read) + len(QUESTION))  # fmt: skip
    assert not torch.allclose(found[0], whole, atol=1e-2)


def test_one_document_and_whole_steps_are_one_call(model: lengthwise.Model) -> None:
    for recipe, documents in (("pine", DOCUMENTS[:1]), ("v2pe(delta=1)", DOCUMENTS)):
        session = model.read_apart(documents, recipe, prefix=PREFIX, chunk=7)
        prompt = [*PREFIX, *(token for each in documents for token in each), *QUESTION]
        whole = model.generate(prompt, max_new_tokens=NEW, stop_ids=[])
        found = session.ask(QUESTION, max_new_tokens=NEW, stop_ids=[])
        assert found.token_ids == whole.token_ids
        assert found.metrics.prompt_tokens == len(prompt)


@pytest.mark.parametrize(
    "recipe", ["pine", "v2pe", "pine + int8(residual=8)", "v2pe + snapkv(budget=40)"]
)
def test_drafts_say_the_same_and_files_hold_it(
    model: lengthwise.Model, tmp_path: Path, recipe: str
) -> None:
    session = model.read_apart(DOCUMENTS, f"{recipe} + lookup", prefix=PREFIX)
    plain = model.read_apart(DOCUMENTS, recipe, prefix=PREFIX)
    said = [
        each.ask(QUESTION, max_new_tokens=3 * NEW, stop_ids=[]).token_ids
        for each in (session, plain)
    ]
    assert said[0] == said[1]
    session.save(tmp_path / "s.safetensors")
    opened = lengthwise.open_session(tmp_path / "s.safetensors", model)
    assert opened.ask(QUESTION, max_new_tokens=3 * NEW, stop_ids=[]).token_ids == said[0]


def test_texts_are_asked_in_any_order(talking: lengthwise.Model) -> None:
    found = [
        talking.read_apart(list(each), "pine", prefix="Notes.\n\n").ask("Who?", max_new_tokens=NEW)
        for each in permutations(TEXTS)
    ]
    assert len({tuple(each.token_ids) for each in found}) == 1


def test_marked_spans_take_fewer_positions(talking: lengthwise.Model) -> None:
    whole = talking.read_apart(TEXTS, "v2pe(delta=1)").held
    few = talking.read_apart(TEXTS, "v2pe(delta=0.0625)").held
    assert few.apart is not None and whole.apart is not None and whole.apart.shared == 0
    lengths = few.apart.lengths
    assert few.apart.shared == sum(lengths) - sum(-(-length // 16) for length in lengths)


def test_one_text_is_refused_with_the_way_to_go(model: lengthwise.Model) -> None:
    for recipe, told in (
        ("pine", "gives every query its own order of several documents, and this is one text"),
        ("v2pe", "steps through documents by fractions of a position, and this is one text"),
    ):
        ways: list[Any] = [
            lambda recipe=recipe: model.generate(QUESTION, recipe),
            lambda recipe=recipe: model.read(QUESTION, recipe),
            lambda recipe=recipe: model.score(QUESTION, recipe),
        ]
        for way in ways:
            with pytest.raises(Refused, match=told):
                way()


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("pine + snapkv", "snapkv chooses among the tokens of one text"),
        ("quest + v2pe", "needs every key near"),
        ("pine + streaming", "streaming sets some apart"),
        ("pine + dynamic_ntk", "dynamic_ntk turns them as the text grows"),
        ("v2pe + dynamic_ntk", "dynamic_ntk turns them as the text grows"),
        ("pine + self_extend", "needs every key near"),
        ("pine + ape", "both decide where documents that are set apart stand"),
        ("v2pe + pine", "both decide where documents that are set apart stand"),
        ("pine + think", "think works on keys at the positions they were stored with"),
        ("v2pe(delta=0)", "delta"),
        ("v2pe(delta=2)", "delta"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(
    model: lengthwise.Model, recipe: str, told: str
) -> None:
    with pytest.raises(LengthwiseError, match=told):
        model.read_apart(DOCUMENTS, recipe, prefix=PREFIX)


def test_models_that_cannot_are_refused_by_name() -> None:
    for family, recipe, told in (
        ("gemma2", "pine", "window of their own"),
        ("gpt2", "pine", "rotary"),
        ("gpt2", "v2pe", "rotary"),
    ):
        with pytest.raises(Refused, match=told):
            lengthwise.wrap(tiny_model(family)).read_apart(DOCUMENTS, recipe, prefix=PREFIX)


def test_sessions_of_documents_that_know_of_each_other_are_not_joined(
    model: lengthwise.Model,
) -> None:
    for recipe in ("pine", "v2pe"):
        session = model.read_apart(DOCUMENTS, recipe, prefix=PREFIX)
        with pytest.raises(SessionError, match=r"give all of them to Model\.read_apart at once"):
            lengthwise.join([session])
        with pytest.raises(LengthwiseError, match="read documents apart.* is not edited"):
            session.edit((0, 1), [])
