"""Fast BPE gives the ids of the library, or says why it cannot."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lengthwise.documents.files import read_document
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.compiled import kernels
from lengthwise.tokenization.fast_bpe import BytePairs, FastBPE, plain_encode
from lengthwise.tokenization.token_bytes import of_letters
from lengthwise.tokenization.trainers.patterns import SUPERWORDS, WORDS, cut_by
from tests.tokenization.trained import ALPHABETS, by_library, drawn_texts

END = "<|endoftext|>"


def _same(tokenizer: Tokenizer, texts: list[str]) -> None:
    found = [each.tolist() for each in FastBPE(tokenizer).encode(texts)]
    assert found == [each.ids for each in tokenizer.encode_batch(texts, add_special_tokens=False)]


@cache
def _learned() -> Tokenizer:
    """Superwords of English, small: pieces are lines and paragraphs."""
    text = read_document().text[:200_000]
    return by_library(text.split("\n\n"), SUPERWORDS, 2_000)


@pytest.mark.parametrize("pattern", ["", WORDS, SUPERWORDS, " ?[^ ]+"])
def test_ids_are_the_librarys_on_drawn_texts(pattern: str) -> None:
    random = Random(len(pattern))
    for _ in range(20):
        tokenizer = by_library(drawn_texts(random), pattern, random.randint(257, 330))
        _same(tokenizer, [*drawn_texts(random, longest=120), "", f"x{END}aab"])


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text("the of\n:,1"))
def test_ids_of_any_text_are_the_librarys(text: str) -> None:
    _same(_learned(), [text])


def test_ids_of_mixed_scripts_and_random_bytes_are_the_librarys() -> None:
    random = Random(0)
    blocks = [(32, 0x500), (0x4E00, 0x9000), (0x1F600, 0x1F640), (0x600, 0x700)]
    mixed = "".join(chr(random.randrange(*random.choice(blocks))) for _ in range(20_000))
    _same(_learned(), [mixed, os.urandom(20_000).decode("latin-1"), read_document().text[:50_000]])


def test_the_plain_twin_agrees() -> None:
    random = Random(5)
    for letters in ALPHABETS:
        texts = ["".join(random.choices(letters, k=50)) for _ in range(6)]
        tokenizer = by_library(texts, SUPERWORDS, 300)
        fast = FastBPE(tokenizer).encode(texts)
        assert [plain_encode(tokenizer, text) for text in texts] == [t.tolist() for t in fast]


def test_texts_come_back_from_their_ids() -> None:
    text = "Zwölf 12345 \U0001f600\n\n  x\t:)"
    (ids,) = FastBPE(_learned()).encode([text])
    assert _learned().decode(ids.tolist()) == text


def test_pieces_of_gpt2_and_of_several_cuts_are_the_librarys() -> None:
    tokenizer = by_library(["a bc's 12 bc bc"], WORDS, 270)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = letters
    _same(tokenizer, ["a bc's 12 bc bc é 1234"])
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
    _same(tokenizer, ["a bc's 12 bc bc é 1234"])


def _changed(**changes: Any) -> Callable[[], Tokenizer]:
    def made() -> Tokenizer:
        told = json.loads(by_library(["ab ab"], WORDS, 260).to_str())
        told["model"] |= changes.pop("model", {})
        return Tokenizer.from_str(json.dumps(told | changes))

    return made


def _few_bytes() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    tokenizer.pre_tokenizer = cut_by("")
    return tokenizer


REFUSED = {
    "ignore_merges": _changed(model={"ignore_merges": True}),
    "dropout": _changed(model={"dropout": 0.1}),
    "normalizer": _changed(normalizer={"type": "NFC"}),
    "ByteLevel": _changed(pre_tokenizer={"type": "Whitespace"}),
    "changes the text": _changed(
        pre_tokenizer={
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        }
    ),  # fmt: skip
    "254 of the 256 bytes": _few_bytes,
    "WordPiece": lambda: Tokenizer(models.WordPiece({"a": 0}, unk_token="a")),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_exact_is_refused(why: str) -> None:
    with pytest.raises(TokenizerError, match=why):
        FastBPE(REFUSED[why]())


@pytest.mark.parametrize("texts, why", [("of", "a list of texts"), (["a\ud800"], "half of a char")])
def test_texts_that_are_none_are_refused(texts: list[str], why: str) -> None:
    with pytest.raises(TokenizerError, match=why):
        FastBPE(_learned()).encode(texts)


def test_a_tokenizer_of_transformers_is_its_backend() -> None:
    fast = FastBPE(PreTrainedTokenizerFast(tokenizer_object=_learned()))
    assert fast.encode(["of the"])[0].tolist() == _learned().encode("of the").ids
    with pytest.raises(TokenizerError, match="use_fast=True"):
        FastBPE(object())  # type: ignore[arg-type]


@pytest.mark.parametrize("pattern", ["", WORDS, SUPERWORDS])
def test_whether_two_tokens_agree_is_what_bpe_makes_of_them(pattern: str) -> None:
    """By going back in time, and by running BPE on the bytes of both."""
    bpe_kernels = kernels("bpe_kernels")
    random = Random(3)
    for _ in range(20):
        model = json.loads(by_library(drawn_texts(random), pattern, 300).to_str())["model"]
        vocab, names = model["vocab"], list(model["vocab"])
        pairs = np.array([[vocab[left], vocab[right]] for left, right in model["merges"]] or
                         np.empty((0, 2)), np.int32)  # fmt: skip
        made = np.array([vocab[left + right] for left, right in model["merges"]], np.int32)
        found = BytePairs([of_letters(name) for name in names], pairs, made)
        flat, starts, of_byte, keys, values, parts = found._tables[:6]
        usable = bpe_kernels.reachable(flat, starts, of_byte, keys, values)
        chosen = [token for token in range(257, len(names)) if usable[token]]
        chosen += [vocab[letter] for letter in "ab"]
        for left in chosen:
            for right in chosen:
                if parts[left, 2] == -2 or parts[right, 2] == -2:
                    continue
                wanted = bpe_kernels.agree_slowly(flat, starts, of_byte, keys, values, left, right)
                assert bpe_kernels.agree(keys, values, parts, left, right) == wanted
