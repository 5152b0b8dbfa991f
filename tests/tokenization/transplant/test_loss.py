"""Bits a byte: the same bytes for every tokenizer, and each of them counted once."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.transplant.loss import loss_a_byte, opening, stretches, text_end
from lengthwise.tokenization.transplant.surgery import transplant
from tests.tokenization.transplant.tiny_pairs import OTHER, TEXT, byte_level, model_of, pieces


@given(st.text(), st.integers(4, 40))
def test_stretches_are_the_text(text: str, size: int) -> None:
    found = list(stretches(text, size))
    assert "".join(found) == text
    assert all(len(part.encode()) <= size for part in found)


def test_the_loss_of_one_stretch_is_that_of_its_tokens() -> None:
    own = byte_level()
    model, ids = model_of(own), own.encode(TEXT[:60])
    found = loss_a_byte(model, own, [TEXT[:60]])
    with torch.inference_mode():
        laws = model(torch.tensor([[own.eos_token_id, *ids]])).logits[0].log_softmax(-1)
    nats = -sum(float(laws[at, token]) for at, token in enumerate(ids))
    size = len(TEXT[:60].encode())
    assert found.bits == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert (found.tokens, found.bytes) == (len(ids), size)


def test_both_tokenizers_are_told_of_the_same_bytes() -> None:
    texts = [OTHER, TEXT]
    sizes = {
        loss_a_byte(model_of(own), own, texts, stretch=100).bytes
        for own in (byte_level(), pieces())
    }
    assert sizes == {len((OTHER + TEXT).encode())}


def test_a_text_longer_than_the_model_is_read_in_parts() -> None:
    own = byte_level()
    found = loss_a_byte(model_of(own, "gpt2", max_position_embeddings=16), own, [TEXT])
    assert found.tokens > 100 and math.isfinite(found.bits)


def test_the_opening_is_what_the_tokenizer_puts_there_or_an_end() -> None:
    assert opening(pieces()) == 1
    assert opening(pieces(opening=False)) == 2
    assert opening(byte_level()) == byte_level().eos_token_id


def test_a_text_may_be_read_behind_another_token() -> None:
    own = byte_level(specials=("<end>", "<|endoftext|>"), template=False)
    model = model_of(own)
    assert (text_end(own), text_end(byte_level())) == (1, byte_level().eos_token_id)
    bits = [loss_a_byte(model, own, [TEXT], start=start).bits for start in (None, 1, 0)]
    assert bits[0] == bits[1] != bits[2]


def test_after_a_transplant_texts_begin_with_the_same_token_as_before() -> None:
    own = byte_level(specials=("</s>", "<turn>"), template=False)
    new = byte_level(OTHER, 300, ("<|endoftext|>",), template=False)
    found = transplant(model_of(own), own, new)
    start = found.moves.first(opening(own))
    assert found.tokenizer.convert_ids_to_tokens(start) == "</s>"
    assert found.moves.first(None) is found.moves.first(own.get_vocab()["Ġcat"]) is None


def test_no_text_is_refused() -> None:
    own = byte_level()
    with pytest.raises(TokenizerError, match="empty"):
        loss_a_byte(model_of(own), own, [""])
