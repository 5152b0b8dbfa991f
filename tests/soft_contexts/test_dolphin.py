"""Dolphin: the structure without training, what is drawn, and that restoration is learned."""

from __future__ import annotations

from random import Random

import pytest
import torch

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.soft_contexts.base import Example, Texts
from lengthwise.soft_contexts.dolphin import CONTINUE, INSTRUCT, RESTORE, Dolphin
from lengthwise.testing.tiny import tokens
from tests.chat_models import chat_model
from tests.soft_contexts.soft_cases import opened


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return chat_model()


def test_as_many_memory_tokens_as_tokens_are_the_prompt(model: lengthwise.Model) -> None:
    ids, after = tokens(20), tokens(9, seed=1)
    encoder = opened(model, Dolphin(tokens=20, layers=0))
    encoder.encoder.memory.data = model.adapted.embed(torch.tensor(ids)).clone()
    session = encoder.read(ids)
    assert session.tokens == ids
    assert torch.allclose(session.score(after), model.read(ids).score(after), atol=1e-5)
    asked = session.ask(after, max_new_tokens=6)
    assert asked.token_ids == model.generate(ids + after, max_new_tokens=6).token_ids


def test_memory_tokens_stand_for_the_whole_context(model: lengthwise.Model) -> None:
    encoder = Dolphin(tokens=4, layers=1).start(model.adapted)
    assert encoder.places(16) == [3, 7, 11, 15]
    assert encoder.places(2) == [0, 0, 0, 1]
    assert len(encoder.encode(tokens(3))) == len(encoder.encode(tokens(90))) == 4
    other = encoder.encode([tokens(1, seed=5)[0], *tokens(90)[1:]])
    assert not torch.allclose(other, encoder.encode(tokens(90)), atol=1e-6)


def test_stages_draw_a_text_its_continuation_and_pairs() -> None:
    how, pair = Dolphin(), Example((1, 2), (3, 4, 5), start=1)
    texts = Texts((tuple(range(50)),), 8)
    restored = how.example(RESTORE, texts, Random(0))
    assert restored.context == restored.after and len(restored.after) == 8
    goes_on = how.example(CONTINUE, texts, Random(0))
    assert goes_on.after[0] == goes_on.context[-1] + 1 and len(goes_on.after) == 8
    with pytest.raises(LengthwiseError, match="stage instruct learns from questions: give pairs"):
        how.example(INSTRUCT, texts, Random(0))
    assert how.example(INSTRUCT, Texts(texts.ids, 8, (pair,)), Random(0)) is pair


def test_both_projectors_give_embeddings_and_gradients(model: lengthwise.Model) -> None:
    for kind in ("linear", "mlp"):
        encoder = Dolphin(tokens=3, layers=1, projector=kind).start(model.adapted)
        (found,) = encoder([tokens(12)])
        found.square().sum().backward()
        assert found.shape == (3, model.adapted.embed(torch.tensor([1])).shape[-1])
        assert all(each.grad is not None for each in encoder.parameters())
