"""What soft contexts have in common: how texts are cut, drawn and registered."""

from __future__ import annotations

from random import Random

import pytest
import torch

import lengthwise
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.recipes.parser import parse_one
from lengthwise.soft_contexts.base import SOFT_CONTEXTS, SoftContext, Texts
from lengthwise.soft_contexts.dolphin import Dolphin
from lengthwise.soft_contexts.files import method_of
from lengthwise.testing.tiny import tiny_model, tokens
from tests.soft_contexts.soft_cases import BOTH, DOLPHIN, EXTENSIBLE


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama"))


def test_every_one_is_registered_and_read_with_its_options() -> None:
    assert SOFT_CONTEXTS.usable() == {each.name: type(each) for each in BOTH}
    for each in BOTH:
        assert parse_one(str(each), SOFT_CONTEXTS.usable()) == each
    assert str(Dolphin()) == "dolphin"
    with pytest.raises(RecipeError, match="dolphin: tokens=0: allowed is whole number, at least 1"):
        Dolphin(tokens=0)
    with pytest.raises(RecipeError, match="unknown soft context 'dolfin'; did you mean 'dolphin'"):
        method_of("dolfin")


def test_a_third_partys_name_has_to_be_its_own() -> None:
    with pytest.raises(TypeError, match="it is no dataclass of lengthwise.soft_contexts.base.Soft"):
        SOFT_CONTEXTS._check("x", int)
    with pytest.raises(ValueError, match="its class is named 'dolphin'"):
        SOFT_CONTEXTS._check("x", Dolphin)


@pytest.mark.parametrize("how", BOTH, ids=str)
def test_a_long_text_is_encoded_chunk_by_chunk(model: lengthwise.Model, how: SoftContext) -> None:
    encoder = how.start(model.adapted)
    ids, seen = tokens(150), []
    whole = encoder.encode(ids, progress=seen.append)
    assert seen == [64, 64, 22]
    parts = [encoder.encode(ids[at : at + 64]) for at in (0, 64, 128)]
    assert torch.allclose(whole, torch.cat(parts), atol=1e-6)
    assert len(encoder.stand_ins(ids)) == len(whole) and set(encoder.stand_ins(ids)) <= set(ids)


@pytest.mark.parametrize("how", BOTH, ids=str)
def test_rows_of_several_lengths_are_what_each_is_alone(
    model: lengthwise.Model, how: SoftContext
) -> None:
    encoder = how.start(model.adapted)
    rows = [tokens(9), tokens(23, seed=1), tokens(16, seed=2)]
    with torch.no_grad():
        together = encoder(rows, encoder.checked(None))
        for row, found in zip(rows, together, strict=True):
            assert torch.allclose(found, encoder([row], encoder.checked(None))[0], atol=1e-5)


@pytest.mark.parametrize("how", BOTH, ids=str)
def test_an_encoder_begins_at_the_size_of_embeddings(
    model: lengthwise.Model, how: SoftContext
) -> None:
    encoder = how.start(model.adapted)
    found = encoder.encode(tokens(64))
    own = model.adapted.embed(torch.tensor(tokens(64)))
    assert 0.2 < float(found.std() / own.std()) < 5


@pytest.mark.parametrize("family", ["gpt2", "gemma3_text", "mistral", "smollm3", "phi"])
@pytest.mark.parametrize("how", BOTH, ids=str)
def test_layers_of_other_families_are_copied(family: str, how: SoftContext) -> None:
    other = lengthwise.wrap(tiny_model(family))
    before = [each.clone() for each in other.adapted.model.parameters()]
    encoder = how.start(other.adapted)
    assert bool(encoder.encode(tokens(20)).isfinite().all())
    with torch.no_grad():
        for each in encoder.parameters():
            each.add_(1.0)
    for mine, theirs in zip(other.adapted.model.parameters(), before, strict=True):
        assert torch.equal(mine, theirs)


def test_what_leaves_no_room_or_has_no_layers_is_refused(model: lengthwise.Model) -> None:
    with pytest.raises(LengthwiseError, match="layers=9: llama has 2; give fewer"):
        Dolphin(tokens=2, layers=9).start(model.adapted)
    with pytest.raises(LengthwiseError, match="memory tokens behind 1 of a text are more"):
        Dolphin(tokens=10**6).start(model.adapted)
    with pytest.raises(LengthwiseError, match="ratio=2: the number of embeddings .* is fixed"):
        DOLPHIN.start(model.adapted).checked(2)
    small = lengthwise.wrap(tiny_model("llama"))
    assert EXTENSIBLE.start(small.adapted).chunk == 64


def test_a_family_that_reads_ids_in_later_layers_is_refused(
    model: lengthwise.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lengthwise.soft_contexts.base.takes_embeddings", lambda _: False)
    with pytest.raises(Refused, match="reads the ids of its tokens in later layers"):
        DOLPHIN.start(model.adapted)


def test_texts_are_drawn_by_their_length() -> None:
    texts = Texts((tuple(range(10)), tuple(range(100, 130)), (7,)), 8)
    drawn = [texts.draw(8, Random(seed)) for seed in range(200)]
    assert {len(each) for each in drawn} == {8}
    long = sum(each[0] >= 100 for each in drawn)
    assert 160 < long < 200
    with pytest.raises(LengthwiseError, match="no text has the 31 tokens"):
        texts.draw(31, Random(0))
