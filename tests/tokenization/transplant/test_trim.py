"""Fewer tokens: the text that was kept is cut as before, and its logits are the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.token_bytes import byte_vocabulary
from lengthwise.tokenization.transplant.surgery import transplant
from lengthwise.tokenization.transplant.trim import trimmed
from tests.tiny_tokenizers import word_piece
from tests.tokenization.transplant.tiny_pairs import TEXT, byte_level, model_of, pieces, unigram

PART = "The cat sat on the mat. A rat ran at the other cats."


def spelled(tokenizer: Any, text: str) -> list[bytes | None]:
    vocabulary = byte_vocabulary(tokenizer).spelled
    return [vocabulary[token] for token in tokenizer.encode(text)]


def with_added() -> Any:
    """A tokenizer whose special token is no word of its model."""
    own = byte_level()
    found = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(own.backend_tokenizer.to_str()), eos_token="<end>"
    )
    found.add_special_tokens({"additional_special_tokens": ["<more>"]})
    return found


@pytest.mark.parametrize("make", [byte_level, pieces, unigram, with_added])
def test_kept_text_is_cut_as_before(make: Any) -> None:
    own = make()
    made = trimmed(own, lambda: iter([PART]))
    assert len(made) < len(own)
    assert made.convert_ids_to_tokens(made.encode(PART)) == own.convert_ids_to_tokens(
        own.encode(PART)
    )
    assert sorted(made.get_vocab().values()) == list(range(len(made)))
    assert {made.decode(made.encode(PART)), own.decode(own.encode(PART))} == {
        own.decode(own.encode(PART))
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(TEXT.split()), min_size=1, max_size=12))
def test_any_part_of_the_learned_text_is_cut_as_before(words: list[str]) -> None:
    text = " ".join(words)
    for own in (byte_level(), pieces(), unigram()):
        made = trimmed(own, lambda: iter([text]))
        assert made.convert_ids_to_tokens(made.encode(text)) == own.convert_ids_to_tokens(
            own.encode(text)
        )


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_every_other_text_can_still_be_written(text: str) -> None:
    made = trimmed(byte_level(), lambda: iter([PART]))
    assert made.decode(made.encode(text)) == text


@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_kept_tokens_are_the_same(tied: bool) -> None:
    own = byte_level()
    model = model_of(own, tie_word_embeddings=tied)
    with torch.inference_mode():
        before = model(torch.tensor([own.encode(PART)])).logits[0]
        made = trimmed(own, lambda: iter([PART]))
        found = transplant(model, own, made)
        assert found.made == 0 and found.tokenizer.encode(PART) == made.encode(PART)
        after = model(torch.tensor([made.encode(PART)])).logits[0]
    kept = [own.get_vocab()[word] for word in sorted(made.get_vocab(), key=made.get_vocab().get)]
    torch.testing.assert_close(after[:, : len(made)], before[:, kept], rtol=0, atol=1e-6)
    assert found.tokenizer.chat_template == own.chat_template


def test_rare_tokens_may_go() -> None:
    own = byte_level()
    few = trimmed(own, lambda: iter([PART, PART, "The theatre"]), fewest=2)
    all_ = trimmed(own, lambda: iter([PART, PART, "The theatre"]))
    assert len(few) < len(all_)
    assert few.decode(few.encode("The theatre")) == "The theatre"


def test_other_kinds_and_no_text_are_refused() -> None:
    with pytest.raises(TokenizerError, match="WordPiece cannot be trimmed"):
        trimmed(word_piece(), lambda: iter([PART]))
    with pytest.raises(TokenizerError, match="no text"):
        trimmed(byte_level(), lambda: iter([""]))


def test_a_call_that_truncated_before_does_not_hide_text() -> None:
    own = byte_level.__wrapped__()
    expected = trimmed(own, lambda: iter([TEXT])).get_vocab()
    own(TEXT, truncation=True, max_length=4)
    made = trimmed(own, lambda: iter([TEXT]))
    assert made.get_vocab() == expected
    assert made.backend_tokenizer.truncation is None
