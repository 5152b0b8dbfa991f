"""SQuAD's exact match and token F1, on pairs worked out by hand; what contains what."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.matching import (
    contains_all,
    contains_any,
    equals,
    hotpot_f1,
    plain_words,
    squad_em,
    squad_f1,
    sub_em,
)

PAIRS = [
    ("The Denver Broncos!", ["Denver Broncos"], 1.0, 1.0),
    ("Denver", ["Denver Broncos"], 0.0, 2 / 3),
    ("The Eiffel Tower, in Paris.", ["Eiffel tower"], 0.0, 2 / 3),
    ("in the city of Paris", ["Paris"], 0.0, 0.4),
    ("Paris", ["London", "Paris"], 1.0, 1.0),
    ("to be to be", ["to be"], 0.0, 2 / 3),
    ("", ["Paris"], 0.0, 0.0),
    ("the", ["a"], 1.0, 1.0),
    ("4,081,927", ["4081927"], 1.0, 1.0),
]


@pytest.mark.parametrize(("said", "answers", "exact", "f1"), PAIRS)
def test_pairs(said: str, answers: list[str], exact: float, f1: float) -> None:
    assert squad_em(said, answers) == exact
    assert squad_f1(said, answers) == pytest.approx(f1)


def test_articles_within_words_stay() -> None:
    assert plain_words("An anthem: the theatre's A-side") == ["anthem", "theatres", "aside"]


def test_texts_without_words_are_equal_but_not_for_longbench() -> None:
    assert squad_f1("the", ["a"]) == 1
    assert squad_f1("the", ["a"], compat=True) == 0


def test_a_longer_reply_loses_f1() -> None:
    answer = ["the river rose in spring"]
    assert squad_f1("river rose in spring and then it fell", answer) < squad_f1(*answer, answer)


def test_yes_and_no_count_as_a_whole() -> None:
    assert hotpot_f1("no, it is not", ["no"]) == 0
    assert hotpot_f1("No.", ["no"]) == 1
    assert hotpot_f1("it is not so", ["not so"]) == pytest.approx(2 / 3)


def test_half_of_the_answers_stand_in_the_reply() -> None:
    assert contains_all("123 and 456", ["123", "789"]) == 0.5
    assert contains_any("123 and 456", ["123", "789"]) == 1
    assert contains_any("Nobody knows", ["123", "789"]) == 0


def test_a_number_does_not_stand_in_a_longer_one() -> None:
    assert contains_all("it is 91234567", ["1234567"], compat=True) == 1
    assert contains_all("it is 91234567", ["1234567"]) == 0
    assert contains_all("it is (1234567).", ["1234567"]) == 1
    assert contains_all("Blue-Fox", ["blue-fox"]) == 1


def test_the_words_of_an_answer_stand_in_the_reply() -> None:
    assert sub_em("it was Beatles", ["The Beatles"]) == 1
    assert sub_em("nothing", ["no"]) == 1
    assert sub_em("nothing", ["no"], whole_words=True) == 0
    assert sub_em("I say no.", ["no"], whole_words=True) == 1


def test_equal_but_for_case_and_outer_spaces() -> None:
    assert equals(" Sports \n", ["politics", "sports"]) == 1
    assert equals("sports news", ["sports"]) == 0
