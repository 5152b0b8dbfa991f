"""Ways to write answers: which examples pairs give, and which pairs give none."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.sequences.answers.base import Example, make_answers
from lengthwise.sequences.answers.c3ot import UNTRUE
from lengthwise.sequences.answers.ruler import ENOUGH, OUTSIDE, trained_class


def said(words: int) -> str:
    return " ".join(["word"] * words)


def pair(words: int, question: str = "Why?") -> dict[str, str]:
    return {"question": question, "answer": said(words)}


@pytest.mark.parametrize(
    ("words", "target"),
    [(5, None), (6, "10"), (15, "10"), (16, None), (25, None), (26, "30"), (35, "30"), (36, None),
     (46, "50"), (55, "50"), (76, "80"), (85, "80"), (135, None), (136, "150"), (155, "150"),
     (156, None), (296, "300"), (505, "500"), (696, "700"), (800, None), (801, ">800")],
)  # fmt: skip
def test_bands_of_training_are_narrow(words: int, target: str | None) -> None:
    found = trained_class(said(words))
    assert (found and found.target) == target


def test_ruler_begins_answers_with_their_class_and_leaves_out_the_rest() -> None:
    never = make_answers("ruler", {"phrased": "0"})
    assert never.examples([pair(10), pair(20)], 0) == [
        [Example("Why?", said(10), "[MLT:10]")], OUTSIDE,
    ]  # fmt: skip
    always = make_answers("ruler", {"phrased": "1"})
    (found,) = always.examples([pair(30)], 0)
    assert found[0] == Example(
        "Why?\nThe response should have a word count of 30 words.", said(30), "[MLT:30]"
    )
    assert len(never.tokens) == 9


def test_ruler_says_the_length_in_a_share_of_prompts_and_takes_so_many_of_a_class() -> None:
    some = make_answers("ruler", {})
    pairs = [pair(10, f"{n}?") for n in range(400)]
    found: Any = some.examples(pairs, 0)
    phrased = sum("word count" in each[0].question for each in found)
    assert 150 < phrased < 250 and found == some.examples(pairs, 0) != some.examples(pairs, 1)
    few = make_answers("ruler", {"most": "3"}).examples([*pairs[:9], pair(50)], 0)
    assert few.count(ENOUGH) == 6 and few[-1] != ENOUGH


def test_c3ot_writes_each_pair_under_both_conditions() -> None:
    given = {"question": "2+3+4?", "long": "2 and 3 is 5, 5 and 4 is 9", "short": "5, 9",
             "answer": "9"}  # fmt: skip
    wrong = given | {"short": "5 and on", "answer": "9"}
    both = make_answers("c3ot", {})
    long, short = (Example("2+3+4?\n[LONG]", "2 and 3 is 5, 5 and 4 is 9\n9"),
                   Example("2+3+4?\n[SHORT]", "5, 9\n9"))  # fmt: skip
    assert both.examples([given, wrong], 0) == [[long, short], UNTRUE]
    assert make_answers("c3ot", {"conditions": "short"}).examples([given], 0) == [[short]]
    kept = make_answers("c3ot", {"filter": "false"}).examples([wrong], 0)
    assert len(kept[0]) == 2


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("rular", {}, "no way to write answers 'rular'.*ruler"),
        ("ruler", {"phrase": "1"}, "ruler has no option 'phrase'.*phrased"),
        ("ruler", {"phrased": "2"}, "phrased"),
        ("c3ot", {"conditions": "none"}, "both"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused(method: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(LengthwiseError, match=message):
        make_answers(method, options)
