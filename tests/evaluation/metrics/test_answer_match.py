"""SQuAD's exact match and token F1, on pairs worked out by hand."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.metrics.answer_match import exact_match, plain_words, token_f1

PAIRS = [
    ("The Denver Broncos!", ["Denver Broncos"], 1.0, 1.0),
    ("Denver", ["Denver Broncos"], 0.0, 2 / 3),
    ("in the city of Paris", ["Paris"], 0.0, 0.4),
    ("Paris", ["London", "Paris"], 1.0, 1.0),
    ("to be to be", ["to be"], 0.0, 2 / 3),
    ("", ["Paris"], 0.0, 0.0),
    ("the", ["a"], 1.0, 1.0),
    ("4,081,927", ["4081927"], 1.0, 1.0),
]


@pytest.mark.parametrize(("said", "answers", "exact", "f1"), PAIRS)
def test_pairs(said: str, answers: list[str], exact: float, f1: float) -> None:
    assert exact_match(said, answers) == exact
    assert token_f1(said, answers) == pytest.approx(f1)


def test_articles_within_words_stay() -> None:
    assert plain_words("An anthem: the theatre's A-side") == ["anthem", "theatres", "aside"]
