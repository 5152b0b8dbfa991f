"""Extensible Tokenization: the structure without training, remainders, ratios, what is drawn."""

from __future__ import annotations

from random import Random

import pytest
import torch

import lengthwise
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.soft_contexts.base import Texts
from lengthwise.soft_contexts.extensible import PIECES, Extensible
from lengthwise.testing.tiny import tiny_model, tokens
from tests.soft_contexts.soft_cases import EXTENSIBLE, opened


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama"))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text", "gemma", "glm"])
def test_one_token_an_embedding_of_the_embedding_layer_is_the_prompt(family: str) -> None:
    model = lengthwise.wrap(tiny_model(family))
    ids, after = tokens(21), tokens(9, seed=1)
    session = opened(model, Extensible(layers=0, chunk=8)).read(ids, ratio=1)
    assert session.tokens == ids
    assert torch.allclose(session.score(after), model.read(ids).score(after), atol=1e-5)


def test_a_rest_shorter_than_the_ratio_has_an_embedding_of_its_own(model: lengthwise.Model) -> None:
    encoder = EXTENSIBLE.start(model.adapted)
    assert encoder.places(12, 4) == [3, 7, 11]
    assert encoder.places(13, 4) == [3, 7, 11, 12]
    assert encoder.places(2, 4) == [1]
    # Each chunk of 64 ends with one.
    assert len(encoder.encode(tokens(65), 32)) == 3
    assert encoder.checked(None) == 2


def test_states_see_what_is_before_them_and_nothing_else(model: lengthwise.Model) -> None:
    encoder = EXTENSIBLE.start(model.adapted)
    ids = tokens(24)
    whole, other = encoder.encode(ids, 4), encoder.encode([*ids[:20], *tokens(4, seed=8)], 4)
    assert torch.allclose(whole[:5], other[:5], atol=1e-6)
    assert not torch.allclose(whole[5], other[5], atol=1e-4)
    # The coarser ones are some of the finer ones.
    assert torch.allclose(encoder.encode(ids, 8), whole[1::2], atol=1e-6)


@pytest.mark.parametrize("ratio", [0, -1, True, 2.0, "4"])
def test_a_ratio_that_is_none_is_refused(model: lengthwise.Model, ratio: object) -> None:
    with pytest.raises(LengthwiseError, match="give how many tokens an embedding stands for"):
        opened(model, EXTENSIBLE).read(tokens(8), ratio=ratio)  # type: ignore[arg-type]


@pytest.mark.parametrize("ratios", ["", "0,2", "a", "2;4"])
def test_ratios_that_are_none_are_refused(ratios: str) -> None:
    with pytest.raises(RecipeError, match="extensible: ratios=.*whole numbers from 1 on"):
        Extensible(ratios=ratios)


def test_a_piece_stands_behind_all_pieces_before_it() -> None:
    how = Extensible(layers=1, piece=8, ratios="2,4")
    texts = Texts((tuple(range(500)),), 32)
    drawn = [how.example(PIECES, texts, Random(seed)) for seed in range(60)]
    assert {len(each.context) for each in drawn} == {8, 16, 24}
    assert {each.ratio for each in drawn} == {2, 4}
    assert all(len(each.after) == 8 and each.after[0] == each.context[-1] + 1 for each in drawn)
    with pytest.raises(LengthwiseError, match="a text has at least two pieces of 8 tokens"):
        how.example(PIECES, Texts(texts.ids, 15), Random(0))
