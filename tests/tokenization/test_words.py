"""Words as a reader counts them."""

from __future__ import annotations

import pytest

from lengthwise.tokenization.words import count_words, words_of


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
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words and count_words(text) == len(words)
