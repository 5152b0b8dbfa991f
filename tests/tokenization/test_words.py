"""Words as a reader counts them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from lengthwise.tokenization.words import count_words, folded, word_pattern, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n - ... *", []),
        ("Don't count twice.", ["Don't", "count", "twice"]),
        ("a state-of-the-art, 3.5-ton crane", ["a", "state-of-the-art", "3", "5-ton", "crane"]),
        ("# Part 1\n\n**bold**_under_", ["Part", "1", "bold", "under"]),
        ("\u6211\u4eec GPT4 \u306e", ["\u6211", "\u4eec", "GPT4", "\u306e"]),
        ("Größe, привет мир", ["Größe", "привет", "мир"]),
        ("rock\u2019n\u2019roll", ["rock\u2019n\u2019roll"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("தமிழ், বাংলা", ["தமிழ்", "বাংলা"]),
        ("كَتَبَ שָׁלוֹם", ["كَتَبَ", "שָׁלוֹם"]),
        ("cafe\u0301's i\u0307", ["cafe\u0301's", "i\u0307"]),
        ("\u0dc1\u0dca\u200d\u0dbb\u0dd3", ["\u0dc1\u0dca\u200d\u0dbb\u0dd3"]),
        ("\u30bd\u30fb\u9023 \u304b\u3099", ["\u30bd", "\u9023", "\u304b\u3099"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words and count_words(text) == len(words)


@given(st.text(st.characters(max_codepoint=127)))
def test_words_of_ascii_are_runs_of_letters_digits_and_underscores(text: str) -> None:
    assert re.findall(word_pattern(), text) == re.findall(r"\w+", text)
    assert re.findall(word_pattern("'"), text) == re.findall(r"\w+(?:'\w+)*", text)


@given(st.text())
def test_words_and_other_signs_are_all_of_a_text(text: str) -> None:
    parts = re.findall(rf"{word_pattern()}|[^\w\s]+|\s+", text)
    assert "".join(parts) == text


def test_texts_are_compared_without_case_and_composed() -> None:
    assert folded("CAFE\u0301") == folded("caf\u00e9") == "caf\u00e9"
    assert folded("Straße") == "strasse"
