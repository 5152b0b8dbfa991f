"""A tokenizer in the place of a model: it counts as a model does, and writes nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lengthwise.api import tokenizer_text
from lengthwise.api.text_model import LocalText
from lengthwise.api.tokenizer_text import TokenizerText
from lengthwise.errors import Refused
from lengthwise.testing.prompting import letters

TEXT = "Bo is a dog.\nThe Heron left."


def reader() -> TokenizerText:
    return TokenizerText(letters().tokenizer, "letters", 64)


def test_tokens_are_those_of_the_model() -> None:
    model = LocalText(letters())
    assert reader().spans(TEXT) == model.spans(TEXT)
    assert reader().count(TEXT) == model.count(TEXT) == len(TEXT)
    assert reader().trained_length == 64 and reader().name == "letters"


def test_a_tokenizer_without_offsets_counts_without_decoding() -> None:
    slow = SimpleNamespace(is_fast=False, encode=letters().tokenizer.encode)  # type: ignore[union-attr]
    assert TokenizerText(slow, "letters", 64).count(TEXT) == len(TEXT)


def test_it_writes_nothing() -> None:
    with pytest.raises(Refused, match="such as bm25, dense or reorder"):
        reader().write(TEXT, "Who?", 4)


def test_a_long_text_is_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = TokenizerText(letters().tokenizer, "letters", 64)
    for text in ("", "a b\nc" * 9, "no line " * 9, "a\n\n b\n\n\nc\n" * 5):
        monkeypatch.setattr(tokenizer_text, "PART", 1 << 18)
        assert "".join(tokenizer_text._parts(text)) == text
        whole = reader.count(text)
        monkeypatch.setattr(tokenizer_text, "PART", 7)
        assert "".join(tokenizer_text._parts(text)) == text and reader.count(text) == whole
    assert len(list(tokenizer_text._parts("a b\nc" * 9))) > 3
