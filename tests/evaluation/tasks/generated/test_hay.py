"""Haystacks: needles at ends of sentences next to their depth, once each; needle and passkey."""

from __future__ import annotations

import random

import pytest

from lengthwise.evaluation.tasks.benchmark import tasks_of
from lengthwise.evaluation.tasks.generated._shared.hay import FILLER, Hay
from lengthwise.evaluation.tasks.generated._shared.pairs import Grown, apart
from tests.evaluation.tasks.generated.generated_cases import haystack, one, wanted

UNITS = ["Aa aa. ", "Bb bb. ", "Cc cc. ", "Dd dd."]


@pytest.mark.parametrize(
    ("depth", "text"),
    [
        (0.0, "X. Aa aa. Bb bb. Cc cc. Dd dd."), (0.3, "Aa aa. X. Bb bb. Cc cc. Dd dd."),
        (0.45, "Aa aa. X. Bb bb. Cc cc. Dd dd."), (0.5, "Aa aa. Bb bb. X. Cc cc. Dd dd."),
        (1.0, "Aa aa. Bb bb. Cc cc. Dd dd. X."),
    ],
)  # fmt: skip
def test_a_needle_stands_at_the_end_of_a_sentence_before_its_depth(depth: float, text: str) -> None:
    assert Hay(UNITS).with_needles(0, 4, ["X."], [depth]) == text


def test_hay_is_read_round_and_round_from_any_sentence() -> None:
    assert "".join(Hay(UNITS).plain(2, 6)) == "Cc cc. Dd dd.Aa aa. Bb bb. Cc cc. Dd dd."
    assert Hay(UNITS, "\n").with_needles(1, 2, ["X.", "Y."], [0.5, 0.5]) == (
        "Bb bb. X.\nY.\nCc cc."
    )
    assert Hay.filler().plain(0, 3) == [FILLER] * 3


@pytest.mark.parametrize("depth", [0.0, 0.33, 0.9, 1.0])
def test_needles_taken_out_leave_the_users_text(depth: float) -> None:
    _, sample = one("needle(needles=3)", 1500, depth=depth)
    rest = sample.context
    for number in sample.references:
        (found,) = [each for each in rest.split(". ") if number in each]
        rest = rest.replace(f"{found.rstrip('.')}. ", "").replace(f" {found.rstrip('.')}.", "")
    assert rest in haystack() * 2
    assert sample.context.index(sample.references[0]) / len(sample.context) == (
        pytest.approx(depth, abs=0.06)
    )


@pytest.mark.parametrize(
    ("said", "score"),
    [
        (" {}.", 1.0),
        ("It is {}.", 1.0),
        ("{} or 3", 1.0),
        ("3 or {}", 0.0),
        ("1{}", 0.0),
        ("", 0.0),
    ],
)
def test_the_first_number_of_a_reply_is_the_pass_key(said: str, score: float) -> None:
    (task,) = tasks_of("passkey")
    for sample in task.samples(wanted(500)):
        (key,) = sample.references
        assert sample.context.count(key) == 2
        assert task.score(said.format(key), sample) == {"first_int": score}


def test_more_of_what_is_grown_begins_with_less() -> None:
    own = apart(random.Random(1))
    grown = Grown(own.random)
    long = grown.first(5)
    assert grown.first(2) == long[:2] and grown.first(7)[:5] == long
    other = apart(random.Random(1))
    assert Grown(other.random).first(7) == grown.first(7)
