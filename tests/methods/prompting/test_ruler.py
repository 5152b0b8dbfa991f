"""Answers that begin with a meta length token: which one, on which model, and where it is seen."""

from __future__ import annotations

import pytest

import lengthwise
from lengthwise.errors import Refused
from lengthwise.methods.prompting.ruler import CLASSES, class_of
from lengthwise.testing.tiny import tiny_model
from tests.chat_models import TEMPLATE, tokenizer

TOKENS = [each.token for each in CLASSES]


def taught() -> lengthwise.Model:
    """A tiny model whose tokenizer has the tokens; what it says is any letters."""
    made = tokenizer(TEMPLATE)
    made.add_special_tokens({"additional_special_tokens": TOKENS})
    stock = tiny_model(
        "llama", initializer_range=0.15, vocab_size=len(made), max_position_embeddings=512,
        eos_token_id=None,
    )  # fmt: skip
    return lengthwise.wrap(stock, made)


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return taught()


def test_any_number_of_words_has_a_class() -> None:
    edges = {1: "10", 20: "10", 21: "30", 40: "30", 41: "50", 60: "50", 61: "80", 100: "80",
             101: "150", 200: "150", 201: "300", 400: "300", 401: "500", 600: "500",
             601: "700", 800: "700", 801: ">800", 5000: ">800"}  # fmt: skip
    assert {words: class_of(words).target for words in edges} == edges
    assert class_of(900).phrase == "The response should have a word count of more than 800 words."


def test_an_answer_begins_with_its_token_and_shows_nothing_of_it(model: lengthwise.Model) -> None:
    pieces: list[str] = []
    found = model.generate("Why?", "ruler(words=45)", max_new_tokens=8, stream=pieces.append)
    assert model.tokenizer is not None
    wanted = model.tokenizer.convert_tokens_to_ids("[MLT:50]")
    assert found.token_ids[0] == wanted
    assert "MLT" not in found.text and "".join(pieces) == found.text
    # It goes on as behind a prompt that ends with the token.
    behind = model.generate([*model.encode("Why?"), wanted], max_new_tokens=7)
    assert found.token_ids[1:] == behind.token_ids


def test_without_words_nothing_changes(model: lengthwise.Model) -> None:
    plain = model.generate("Why?", max_new_tokens=8)
    assert model.generate("Why?", "ruler", max_new_tokens=8).token_ids == plain.token_ids


def test_drafts_batches_sessions_and_documents_begin_alike(model: lengthwise.Model) -> None:
    one = model.generate("Why?", "ruler(words=10)", max_new_tokens=8).token_ids
    assert model.generate("Why?", "ruler(words=10) + lookup", max_new_tokens=8).token_ids == one
    rows = model.generate_batch(["Why?", "How so?"], "ruler(words=10)", max_new_tokens=8)
    assert rows[0].token_ids == one and rows[1].token_ids[0] == one[0]
    session = model.read("A text.", "ruler(words=10)")
    assert session.ask("Why?", max_new_tokens=4).token_ids[0] == one[0]
    found = lengthwise.answer(
        model, "A text. Another one.", "Why?", "bm25(budget=4) + ruler(words=10)", max_new_tokens=4
    )
    assert found.token_ids[0] == one[0] and found.sources


def test_a_model_that_has_not_learned_the_token_is_refused() -> None:
    from lengthwise.testing.prompting import letters

    with pytest.raises(Refused, match=r"\[MLT:30\], which this 'llama' model has not learned"):
        letters().generate("Why?", "ruler(words=30)")


def test_several_texts_at_once_have_no_beginning(model: lengthwise.Model) -> None:
    with pytest.raises(Refused, match="how an answer begins"):
        model.generate("Why?", "ruler(words=30) + superposed", max_new_tokens=4)
