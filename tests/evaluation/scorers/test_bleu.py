"""BLEU's variants on the card's pairs, and chrF."""

from __future__ import annotations

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers.bleu import bleu, chrf, corpus_bleu, norm_words

SAID = ["fix npe in UserService", "Update README ."]
RIGHT = [["Fix NPE in UserService when name is null"], ["Update README"]]


@pytest.mark.parametrize(
    ("variant", "each", "all_of_them"),
    [("norm", (44.933, 68.659), 56.796), ("cc", (7.195, 24.997), 16.096)],
)
def test_sentences_of_the_card(variant: str, each: tuple[float, float], all_of_them: float) -> None:
    scores = [100 * bleu(*pair, variant=variant) for pair in zip(SAID, RIGHT, strict=True)]
    assert scores == pytest.approx(each, abs=1e-3)
    assert 100 * corpus_bleu(SAID, RIGHT, variant=variant) == pytest.approx(all_of_them, abs=1e-3)


@pytest.mark.parametrize(("variant", "score"), [("moses", 0), ("norm", 100), ("cc", 39.042)])
def test_equal_messages_of_two_words(variant: str, score: float) -> None:
    found = 100 * corpus_bleu(["fix typo"], [["fix typo"]], variant=variant)
    assert found == pytest.approx(score, abs=1e-3)


def test_moses_is_of_a_corpus_and_not_averaged() -> None:
    assert corpus_bleu(SAID, RIGHT) == 0
    with pytest.raises(LengthwiseError, match="moses is never averaged: take corpus_bleu"):
        bleu("a", ["a"], variant="moses")
    with pytest.raises(LengthwiseError, match="'blue': allowed are norm, cc, sacre"):
        bleu("a", ["a"], variant="blue")


def test_moses_takes_several_references() -> None:
    said = "the old bridge was mended in the spring"
    assert corpus_bleu([said, said], [[said], ["something else", said]]) == pytest.approx(1)


def test_numbers_of_texts_must_agree() -> None:
    with pytest.raises(LengthwiseError, match="2 replies for 1 lists"):
        corpus_bleu(["a", "b"], [["a"]])
    with pytest.raises(LengthwiseError, match="0 replies"):
        corpus_bleu([], [])


def test_empty_replies_score_without_an_error() -> None:
    assert bleu("", ["a b"], variant="cc") == 0
    assert bleu("", ["a b"], variant="sacre") == 0
    assert 0 <= bleu("", ["a b"], variant="norm") <= 1


def test_marks_are_words_of_their_own() -> None:
    assert norm_words(" Fix user_id's, 2.1.0-rc ") == [
        "fix", "user", "_", "id", "'", "s", ",", "2", ".", "1", ".", "0", "-", "rc",
    ]  # fmt: skip


def test_chrf_of_equal_and_of_other_texts() -> None:
    assert chrf("mended bridge", ["mended bridge"]) == pytest.approx(1)
    assert chrf("xyz", ["mended bridge"]) == 0
    assert chrf("mend bridges", ["mended bridge"]) > chrf(
        "mend bridges", ["mended bridge"], words=2
    )
