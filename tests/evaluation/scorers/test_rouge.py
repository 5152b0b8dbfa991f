"""ROUGE by both packages."""

from __future__ import annotations

import sys

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers.rouge import rouge, rouge_l


def test_recall_of_half_a_text() -> None:
    assert rouge_l("a b c", ["a b c d e f"], mode="recall") == 0.5


def test_the_package_counts_each_word_once() -> None:
    said, right = "the cat sat", ["the cat sat on the mat"]
    assert rouge_l(said, right, mode="recall") == pytest.approx(3 / 5)
    assert rouge_l(said, right, mode="recall", repeats=True) == pytest.approx(3 / 6)


@pytest.mark.parametrize("reply", ["", ".", " "])
def test_a_reply_without_words_scores_zero(reply: str) -> None:
    assert rouge_l(reply, ["some words"]) == 0
    assert rouge(reply, ["some words"]) == 0


def test_a_sentence_of_a_thousand_words_is_scored_but_not_by_the_released_code() -> None:
    limit = sys.getrecursionlimit()
    long = " ".join(f"w{n}" for n in range(limit + 500))
    assert rouge_l(long, ["w1 w2 w3"], mode="recall") == 1
    assert rouge_l(long, ["w1 w2 w3"], mode="recall", compat=True) == 0
    assert sys.getrecursionlimit() == limit


def test_the_best_reference_counts() -> None:
    assert rouge("one two", ["three", "one two"], kind="rouge1") == 1
    assert rouge("he runs", ["he run"], kind="rouge1") == 0.5
    assert rouge("he runs", ["he run"], kind="rouge1", stem=True) == 1


def test_unknown_kinds_and_modes_are_refused() -> None:
    with pytest.raises(LengthwiseError, match="'rouge9': allowed are rouge1"):
        rouge("a", ["a"], kind="rouge9")
    with pytest.raises(LengthwiseError, match="mode 'best': allowed are f, precision, recall"):
        rouge_l("a", ["a"], mode="best")  # type: ignore[arg-type]
