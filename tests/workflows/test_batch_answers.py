"""Labels read from what models really write."""

from __future__ import annotations

import pytest

from lengthwise.workflows.batch_answers import Answer, read_answers

YES_NO = ("yes", "no")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("1: yes, confident", Answer("yes", True)),
        ("1: yes, not confident", Answer("yes")),
        ("1: yes", Answer("yes")),
        ("1. Yes", Answer("yes")),
        ("[1] no (confident)", Answer("no", True)),
        ("- Item 1: **no** - unsure", Answer("no")),
        ("**1**: no, not very confident.", Answer("no")),
        ("| 1 | yes | confident |", Answer("yes", True)),
        ("1) \"Yes\", I am quite certain", Answer("yes", True)),
        ("1 yes uncertain", Answer("yes")),
        ("1 -> no", Answer("no")),
        ("1: no, it is not", Answer("no")),
        ("Text #1: The answer is no.", Answer("no")),
        ("1: perhaps", Answer()),
        ("1: yes or no", Answer()),
        ("1: it may be no or yes", Answer()),
        ("1: nothing", Answer()),
        ("1:", Answer()),
        ("2: yes", Answer()),
        ("0: yes", Answer()),
        ("", Answer()),
    ],
)  # fmt: skip
def test_a_line(line: str, answer: Answer) -> None:
    assert read_answers(line, 1, YES_NO) == [answer]


def test_lines_are_found_by_their_numbers() -> None:
    said = "Here are the labels:\n\n3: no\n1: yes, confident\n7: yes\n12: no\n"
    assert read_answers(said, 3, YES_NO) == [Answer("yes", True), Answer(), Answer("no")]


def test_a_number_with_two_labels_abstains() -> None:
    assert read_answers("1: yes\n2: no\n1: no\n2: no", 2, YES_NO) == [Answer(), Answer("no")]


def test_without_numbers_labels_stand_in_their_order_if_all_are_there() -> None:
    assert read_answers("yes\n\nno\nyes", 3, YES_NO) == [*map(Answer, ("yes", "no", "yes"))]
    assert read_answers("yes\nno", 3, YES_NO) == [Answer()] * 3
    assert read_answers("yes\nno\nwell", 3, YES_NO) == [Answer()] * 3


def test_labels_within_labels_and_with_signs() -> None:
    labels = ("positive", "very positive", "C++", "C")
    said = "1: Very positive\n2: it is very positive\n3: C++\n4: c\n5: positive, sure"
    assert [each.label for each in read_answers(said, 5, labels)] == [
        "very positive", "very positive", "C++", "C", "positive",
    ]  # fmt: skip


def test_a_label_that_is_a_word_of_confidence_is_a_label() -> None:
    said = "1: not sure\n2: sure"
    assert [each.label for each in read_answers(said, 2, ("sure", "not sure"))] == [
        "not sure", "sure",
    ]  # fmt: skip


def test_free_labels_are_short_texts() -> None:
    assert read_answers("1: Garden tools., confident\n2:\n3: 12 cm", 3) == [
        Answer("Garden tools", True), Answer(), Answer("12 cm"),
    ]  # fmt: skip
