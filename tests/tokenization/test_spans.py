"""Places of tokens where a tokenizer gives none: those of decoding every beginning."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from lengthwise.testing.prompting import letters
from lengthwise.tokenization import spans
from lengthwise.tokenization.spans import token_count, token_spans
from tests.tiny_tokenizers import byte_level, word_piece

Make = Callable[[], Any]


class Slow:
    """A tokenizer without offsets, of given ids; it counts the tokens that are decoded."""

    is_fast = False

    def __init__(self, fast: Any, ids: list[int]) -> None:
        self.fast, self.ids, self.decoded = fast, ids, list[int]()

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return self.ids

    def decode(self, ids: list[int]) -> str:
        self.decoded.append(len(ids))
        return str(self.fast.decode(ids))


def slowly(tokenizer: Slow, text: str) -> list[tuple[int, int]]:
    """Every beginning decoded by itself."""
    found, start = [], 0
    for number in range(1, len(tokenizer.ids) + 1):
        end = max(start, min(len(tokenizer.decode(tokenizer.ids[:number])), len(text)))
        found.append((start, end))
        start = end
    return found


@pytest.mark.parametrize("make", [byte_level, word_piece])
@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 64, 200])
def test_windows_give_the_borders_of_whole_beginnings(make: Make, size: int) -> None:
    fast, draw = make(), random.Random(size)
    for _ in range(9):
        # Bytes that are no characters among them.
        tokenizer = Slow(fast, draw.choices(range(1, len(fast) - 1), k=size))
        text = fast.decode(tokenizer.ids)
        assert token_spans(tokenizer, text) == slowly(tokenizer, text)


def test_characters_of_several_tokens_are_cut_by_no_window() -> None:
    fast, text = byte_level(), "日本語の😀 é. " * 40
    tokenizer = Slow(fast, fast.encode(text, add_special_tokens=False))
    found = token_spans(tokenizer, text)
    assert found == slowly(tokenizer, text) and found[-1][1] == len(text)


def test_no_more_is_decoded_than_two_windows() -> None:
    fast, text = letters().tokenizer, "some text " * 100
    assert fast is not None
    tokenizer = Slow(fast, fast.encode(text, add_special_tokens=False))
    assert token_spans(tokenizer, text) == token_spans(fast, text)
    assert max(tokenizer.decoded) <= 2 * spans.WINDOW


def test_tokens_are_counted_without_decoding() -> None:
    fast = letters().tokenizer
    slow = SimpleNamespace(is_fast=False, encode=lambda text, add_special_tokens: [1, 2, 3])
    assert token_count(slow, "abc") == 3
    for text in ("", "abc", "It ends.</s>"):
        assert token_count(fast, text) == len(token_spans(fast, text)) == len(text)
