"""Tokens and their places in the text, as the field `logprobs` shows them."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.engine.logprobs import TokenLogprob
from lengthwise.serving.logprobs import chat_logprobs, prompt_logprobs, text_logprobs, token_text
from lengthwise.tokenization.detokenise import Incremental, decode
from tests.tiny_tokenizers import WORDS, byte_fallback, byte_level, word_piece


def word(text: str) -> int:
    return 3 + 256 + WORDS.index(text)


def byte(value: int) -> int:
    return 3 + value


HELLO, LO, SPACE, X = word("▁hello"), word("lo"), word("▁"), word("x")


def logs(ids: list[int], *top: int) -> list[TokenLogprob]:
    return [TokenLogprob(n, -1.0, tuple((t, -2.0 - t) for t in top)) for n in ids]


def test_a_token_keeps_its_space() -> None:
    tokenizer = byte_fallback()
    shown = [token_text(tokenizer, each) for each in (HELLO, LO, SPACE, byte(0xE2), 2)]
    assert shown == [" hello", "lo", " ", "\ufffd", "</s>"]
    assert token_text(byte_level(), byte_level().encode("a")[0]) == "a"
    assert token_text(byte_level(), byte_level().convert_tokens_to_ids("Ġthe")) == " the"
    (a,) = word_piece().convert_tokens_to_ids(["a"])
    assert token_text(word_piece(), a) == " a"


def test_two_tokens_of_top_logprobs_that_differ_by_a_space_are_two() -> None:
    tokenizer = byte_fallback()
    vocabulary = tokenizer.get_vocab()
    assert "▁x" not in vocabulary and "▁hello" in vocabulary
    found = logs([HELLO], HELLO, LO, X)
    made: dict[str, Any] = text_logprobs(tokenizer, found, Incremental(tokenizer))
    assert set(made["top_logprobs"][0]) == {" hello", "lo", "x"}
    (entry,) = chat_logprobs(tokenizer, found)["content"]
    assert entry["token"] == " hello" and bytes(entry["bytes"]) == b" hello"
    assert [each["token"] for each in entry["top_logprobs"]] == [" hello", "lo", "x"]


@pytest.mark.parametrize("step", [1, 3, 99])
def test_places_are_those_in_the_text_that_is_said(step: int) -> None:
    tokenizer = byte_fallback()
    ids = [HELLO, word("▁world"), byte(0xC3), byte(0xA9), 2, X, word("▁é"), LO, byte(0xE2), X]
    text = decode(tokenizer, ids)
    assert text == "hello world\xe9x \xe9lo\ufffdx"
    read, found = Incremental(tokenizer), []
    for start in range(0, len(ids), step):
        found.append(text_logprobs(tokenizer, logs(ids[start : start + step]), read, 10))
    offsets = [place - 10 for made in found for place in made["text_offset"]]
    #              hello world 2 bytes  </s> x   é   lo  byte x
    assert offsets == [0, 5, 11, 11, 12, 12, 13, 15, 17, 18]
    tokens = [token for made in found for token in made["tokens"]]
    assert "".join(tokens[:2]) == " hello world" and tokens[4] == "</s>"


@pytest.mark.parametrize("before", [[], [1]])
def test_the_first_token_of_a_prompt_is_how_the_prompt_begins(before: list[int]) -> None:
    tokenizer = byte_fallback()
    made = prompt_logprobs(tokenizer, logs([*before, HELLO, word("▁world")]), "hello world")
    assert made["tokens"][len(before) :] == ["hello", " world"]
    assert made["text_offset"][len(before) :] == [0, 5]
    assert made["token_logprobs"][0] is None and made["top_logprobs"][0] is None
    # One that begins with a space keeps it.
    made = prompt_logprobs(tokenizer, logs([*before, HELLO]), " hello")
    assert made["tokens"][len(before) :] == [" hello"]
