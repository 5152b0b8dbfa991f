"""Bytes in tokens of another tokenizer."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lengthwise.tokenization.token_bytes import byte_vocabulary
from lengthwise.tokenization.transplant.pieces import Pieces
from tests.tokenization.transplant.tiny_pairs import TEXT, byte_level

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())


def test_a_tokenizer_that_puts_a_space_before_a_text_cuts_by_its_merges_all_the_same() -> None:
    vocabulary = {word: n for n, word in enumerate((*LETTERS, "ab", "bc"))}
    backend = Tokenizer(models.BPE(vocabulary, [("b", "c"), ("a", "b")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    own = PreTrainedTokenizerFast(tokenizer_object=backend)
    found = Pieces(own, byte_vocabulary(own)).cut(b"abc")
    # The longest token first would be ab, c.
    assert own.convert_ids_to_tokens(found) == ["a", "bc"]


def test_half_a_character_is_cut_into_tokens_with_its_bytes() -> None:
    own = byte_level()
    vocabulary = byte_vocabulary(own)
    for data in ("猫".encode()[:2], "Käse".encode()[:2], TEXT.encode()):
        found = Pieces(own, vocabulary).cut(data)
        assert vocabulary.text(found) == data
