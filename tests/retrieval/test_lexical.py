"""BM25 over words: its formula, and texts that share nothing."""

from __future__ import annotations

import math

import pytest

from lengthwise.retrieval.lexical import word_scores, words


def test_words_are_folded_and_signs_are_left_out() -> None:
    assert words("Straße, don't STRASSE 3.5 😀 Ünï") == [
        "strasse", "don", "t", "strasse", "3", "5", "ünï",
    ]  # fmt: skip
    assert words("... 😀") == []


def test_words_keep_their_marks_and_are_composed() -> None:
    assert words("हिन्दी में, தமிழ்") == ["हिन्दी", "में", "தமிழ்"]
    assert words("cafe\u0301") == words("CAFÉ") == ["café"]
    assert len(words("İstanbul")) == 1
    # Other vowel signs are other words.
    assert word_scores(["की", "कि"], "कि").argmax() == 1


def test_chinese_characters_and_kana_are_met_one_by_one() -> None:
    assert words("北京。ソ・連 GPT4") == ["北", "京", "ソ", "連", "gpt4"]
    found = word_scores(["船离开了港口。", "看守人的狗叫小波。", "😀"], "狗叫什么名字？")
    assert found.argmax() == 1 and found[0] == found[2] == 0.0


def test_scores_are_those_of_the_formula() -> None:
    texts = ["red crane red", "blue ship", "a crane stands by a ship"]
    mean = (3 + 2 + 6) / 3

    def score(count: int, size: int, having: int) -> float:
        idf = math.log(1 + (3 - having + 0.5) / (having + 0.5))
        return idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * size / mean))

    expected = [score(2, 3, 1) + score(1, 3, 2), 0.0, score(1, 6, 2)]
    assert word_scores(texts, "Red crane?").tolist() == pytest.approx(expected)
    twice = word_scores(texts, "crane crane").tolist()
    assert twice == pytest.approx([2 * each for each in word_scores(texts, "crane").tolist()])


@pytest.mark.parametrize("question", ["", "?!", "unseen", "Где кран?"])
def test_nothing_shared_scores_nothing(question: str) -> None:
    assert word_scores(["red crane", "", "ship"], question).tolist() == [0.0] * 3


def test_texts_without_words_score_nothing() -> None:
    assert word_scores(["", "...", "😀"], "crane").tolist() == [0.0] * 3
    found = word_scores(["", "crane"], "crane")
    assert found[0] == 0.0 and found[1] > 0.0
