"""How long texts are in tokens: the figures that every other column stands beside.

    bytes a token         UTF-8 bytes / tokens
    tokens a character    tokens / characters
    words a token         words / tokens; the fertility is tokens / words

All are of totals over the texts, never means of ratios. A document costs its tokens times a price.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lengthwise.tokenization.opened import OpenTokenizer
from lengthwise.tokenization.words import count_words

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TextFigures:
    """Totals over some texts. seconds: it took to tokenise all of them at once, on all cores."""

    documents: int
    bytes: int
    characters: int
    words: int
    tokens: int
    seconds: float

    @property
    def bytes_per_token(self) -> float:
        """How much text a token holds."""
        return self.bytes / max(self.tokens, 1)

    @property
    def tokens_per_character(self) -> float:
        """Its inverse by characters, which scripts of three bytes a character are fair to."""
        return self.tokens / max(self.characters, 1)

    @property
    def words_per_token(self) -> float:
        """Words that a token holds."""
        return self.words / max(self.tokens, 1)

    @property
    def fertility(self) -> float:
        """Tokens of a word."""
        return self.tokens / max(self.words, 1)

    @property
    def tokens_per_document(self) -> float:
        """The mean over the texts."""
        return self.tokens / max(self.documents, 1)

    @property
    def mb_per_second(self) -> float:
        """Million bytes tokenised a second."""
        return self.bytes / 1e6 / max(self.seconds, 1e-9)

    def cost(self, price: float) -> float:
        """Dollars that a document costs.

        Args:
            price: dollars for a million tokens.
        """
        return self.tokens_per_document * price / 1e6


def measure_texts(tokenizer: OpenTokenizer, texts: Seq[str]) -> tuple[TextFigures, Counts]:
    """The figures of texts, and how often each token of the vocabulary stands in them.

    Args:
        tokenizer: that encodes them.
        texts: one at least.

    Returns:
        The figures, and int64 `[vocabulary]`.
    """
    begin = time.perf_counter()
    encoded = tokenizer.encode(texts)
    seconds = time.perf_counter() - begin
    figures = TextFigures(
        len(texts), sum(len(text.encode()) for text in texts), sum(map(len, texts)),
        sum(map(count_words, texts)), sum(map(len, encoded)), seconds,
    )  # fmt: skip
    return figures, counted(encoded, tokenizer.size)


def counted(encoded: Seq[Seq[int]], size: int) -> Counts:
    """How often each token stands in encoded texts.

    Args:
        encoded: ids of each text.
        size: of the vocabulary.

    Returns:
        int64 `[size]`.
    """
    total = np.zeros(size, dtype=np.int64)
    for ids in encoded:
        total += np.bincount(np.asarray(ids, dtype=np.int64), minlength=size)[:size]
    return total


__all__ = ["Counts", "TextFigures", "counted", "measure_texts"]
