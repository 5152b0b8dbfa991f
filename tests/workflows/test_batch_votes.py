"""Votes: majority, weights, ties, abstentions, and when two rounds suffice."""

from __future__ import annotations

from lengthwise.workflows.batch_answers import Answer
from lengthwise.workflows.batch_votes import Votes

SURE, UNSURE = Answer("a", True), Answer("b")


def test_the_majority_wins_and_the_first_of_equal_ones() -> None:
    assert Votes([Answer("a"), Answer("b"), Answer("b")]).winner() == "b"
    assert Votes([Answer("a"), Answer("b")]).winner() == "a"
    assert Votes([Answer(), Answer("b"), Answer()]).winner() == "b"
    assert Votes([Answer(), Answer()]).winner() is None and Votes().winner() is None
    assert Votes([Answer("a"), Answer("Fog"), Answer("fog")]).weights() == {"a": 1, "Fog": 2}


def test_doubt_weighs() -> None:
    votes = Votes([SURE, UNSURE, UNSURE])
    assert votes.winner() == "b" and votes.weights(0.4) == {"a": 1, "b": 0.8}
    assert votes.winner(0.4) == "a" and votes.winner(0) == "a"


def test_two_equal_confident_rounds_settle() -> None:
    assert Votes([SURE, SURE]).settled and Votes([UNSURE, SURE, SURE]).settled
    assert not Votes([SURE]).settled and not Votes([SURE, SURE, UNSURE]).settled
    assert not Votes([UNSURE, UNSURE]).settled and not Votes([SURE, Answer("a")]).settled
    assert not Votes([Answer(None, True)] * 2).settled
    assert not Votes([SURE, Answer("b", True)]).settled
