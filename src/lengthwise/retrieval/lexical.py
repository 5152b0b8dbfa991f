"""How near texts are to a question by their words: BM25, by bm25s."""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq
from functools import lru_cache
from typing import Any

import bm25s
import numpy as np
from numpy.typing import NDArray

from lengthwise.tokenization.words import folded, word_pattern

K1, B = 1.5, 0.75
_WORD = re.compile(word_pattern())

Scores = NDArray[np.float32]


def words(text: str) -> list[str]:
    """The words of a text, folded, in their order."""
    return _WORD.findall(folded(text))


def word_scores(texts: Seq[str], question: str, k1: float = K1, b: float = B) -> Scores:
    """BM25 of texts for a question (Lucene's form, which is never negative), `[texts]`.

    Args:
        texts: at least one; their index is held for the next question.
        question: whose words are looked for, each as often as it stands there.
        k1: how soon more of the same word counts no more.
        b: how much the length of a text counts against it, 0 to 1.
    """
    asked, index = words(question), _held_index(tuple(texts), k1, b)
    known = [word for word in asked if index is not None and word in index.vocab_dict]
    if not known:
        return np.zeros(len(texts), np.float32)
    scores: Scores = index.get_scores(known)
    return scores


@lru_cache(maxsize=2)
def _held_index(texts: tuple[str, ...], k1: float, b: float) -> Any:
    """The index of texts about which more than one question may be asked; None without words."""
    corpus = [words(text) for text in texts]
    if not any(corpus):
        return None
    index = bm25s.BM25(k1=k1, b=b)
    index.index(corpus, show_progress=False)
    return index


__all__ = ["B", "K1", "Scores", "word_scores", "words"]
