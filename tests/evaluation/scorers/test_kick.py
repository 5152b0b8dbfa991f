"""LLM-KICK's questions."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.kick import (
    factoid,
    last_letter,
    relaxed_em,
    trivia_f1,
    trivia_words,
)


@pytest.mark.parametrize("reply", ["", "the", "...", "or"])
def test_replies_that_say_nothing_are_wrong_but_not_by_the_released_rule(reply: str) -> None:
    assert relaxed_em(reply, ["York"]) == 0
    assert relaxed_em(reply, ["York"], compat=True) == 1


def test_one_contains_the_other() -> None:
    assert relaxed_em("It was Paris.", ["Paris"]) == 1
    assert relaxed_em("Duke", ["The Duke of York"]) == 1
    assert relaxed_em("London", ["Paris", "Rome"]) == 0


def test_marks_and_underscores_are_spaces() -> None:
    assert trivia_words("The_Hague’s x-ray") == ["hague", "s", "x", "ray"]
    assert trivia_f1("x ray", ["x-ray machine"]) == pytest.approx(0.8)


def test_spaces_do_not_count_in_facts() -> None:
    assert factoid("It is NewYork.", ["new york"]) == 1
    assert factoid("Boston", ["new york"]) == 0


def test_the_last_character_is_the_letter() -> None:
    assert last_letter(" B", ["B"]) == 1
    assert last_letter("", ["B"]) == 0
