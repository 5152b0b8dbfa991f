"""More tokens: old ids stay, and old text is cut as ever where no new merge applies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import AddedToken, normalizers

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.transplant.bpe_file import table_of
from lengthwise.tokenization.transplant.extend import extended
from lengthwise.tokenization.transplant.surgery import transplant
from tests.chat_models import tokenizer
from tests.tokenization.transplant.tiny_pairs import (
    OTHER,
    TEXT,
    byte_level,
    model_of,
    pieces,
    unigram,
)


@pytest.mark.parametrize("make", [byte_level, pieces])
def test_the_text_takes_fewer_tokens_and_old_ids_stay(make: Any) -> None:
    own = make()
    made = extended(own, lambda: iter([OTHER]), 40)
    assert len(made) == len(own) + 40
    assert own.get_vocab().items() <= made.get_vocab().items()
    assert len(made.encode(OTHER)) < 0.8 * len(own.encode(OTHER))
    assert made.decode(made.encode(OTHER)) == own.decode(own.encode(OTHER))
    assert (made.eos_token, made.chat_template) == (own.eos_token, own.chat_template)
    assert all(" " not in made.decode([n]).strip() for n in range(len(own), len(made)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from((TEXT + OTHER).split(" ")), max_size=12))
def test_without_a_new_merge_a_text_is_cut_as_ever(words: list[str]) -> None:
    own = byte_level()
    made = extended(own, lambda: iter([OTHER]), 40)
    new = set(table_of(made)["model"]["merges"]) - set(table_of(own)["model"]["merges"])
    for word in words:
        old = own.convert_ids_to_tokens(own.encode(word))
        if not new & set(zip(old, old[1:], strict=False)):
            assert made.encode(word) == own.encode(word)
        else:
            assert len(made.encode(word)) < len(old)


def test_the_most_frequent_pair_comes_first() -> None:
    own = byte_level("x", 260)
    made = extended(own, lambda: iter(["abab abab ab cd cd"]), 3)
    new = sorted(made.get_vocab().items(), key=lambda item: item[1])[-3:]
    assert [word for word, _ in new] == ["ab", "abab", "cd"]


def test_the_same_text_gives_the_same_tokens() -> None:
    one, other = (extended(pieces(), lambda: iter([OTHER]), 30) for _ in range(2))
    assert one.get_vocab() == other.get_vocab()


def test_a_model_keeps_every_old_row() -> None:
    own = byte_level()
    model = model_of(own, tie_word_embeddings=False)
    before = model.get_output_embeddings().weight.detach().clone()
    found = transplant(model, own, extended(own, lambda: iter([OTHER]), 40))
    assert (found.copied, found.made) == (len(own), 40)
    assert model.get_output_embeddings().weight[: len(own)].equal(before)


def test_what_cannot_be_learned_is_said() -> None:
    with pytest.raises(TokenizerError, match=r"gives \d+ new tokens and not 5,000"):
        extended(byte_level(), lambda: iter([OTHER]), 5000)
    with pytest.raises(TokenizerError, match="Unigram cannot be extended"):
        extended(unigram(), lambda: iter([OTHER]), 5)


def test_special_tokens_that_are_no_words_of_the_model_keep_their_ids() -> None:
    own = tokenizer()
    made = extended(own, lambda: iter([OTHER]), 20)
    assert own.get_vocab().items() <= made.get_vocab().items()
    assert len(set(made.get_vocab().values())) == len(made) == len(own) + 20
    assert made.eos_token_id == own.eos_token_id
    # This tokenizer does not cut at spaces, and yet no token goes over one.
    words = [made.decode([token]) for token in range(len(own), len(made))]
    assert all(" " not in word.strip() and not word.endswith(" ") for word in words)


def test_added_tokens_are_no_words_and_nothing_goes_over_them() -> None:
    own = byte_level.__wrapped__()
    own.add_tokens(["kedi"])
    text = (OTHER + "\nkedi\nkedi\nxkediy xkediy") * 3
    made = extended(own, lambda: iter([text]), 60)
    assert len(made) == len(own) + 60
    assert own.get_vocab().items() <= made.get_vocab().items()
    assert made.convert_ids_to_tokens(made.encode("xkediy")) == ["x", "kedi", "y"]
    assert not any("kedi" in word for word in made.get_vocab().keys() - own.get_vocab().keys())


def test_a_word_that_only_normalising_makes_an_added_token_is_not_learned() -> None:
    own = byte_level.__wrapped__()
    own.backend_tokenizer.normalizer = normalizers.Lowercase()
    own.add_tokens([AddedToken("kedi", normalized=False)])
    made = extended(own, lambda: iter(["KEDI KEDIM KEDI\nKEDI\nKEDI\n" + OTHER]), 30)
    assert own.get_vocab().items() <= made.get_vocab().items()
    assert len(made) == len(own) + 30
