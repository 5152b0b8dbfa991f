"""Additions: how numbers are grouped, read back, and spread over lengths."""

from __future__ import annotations

from collections import Counter

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import tasks_of
from lengthwise.evaluation.tasks.generated.addition import Addition, grouped, number_in
from tests.evaluation.tasks.generated.generated_cases import one, wanted


@pytest.mark.parametrize("number, left, right", [
    (1234567, "123,456,7", "1,234,567"), (9999999, "999,999,9", "9,999,999"),
    (10000000, "100,000,00", "10,000,000"), (123456, "123,456", "123,456"), (7, "7", "7"),
])  # fmt: skip
def test_groups_of_three_from_either_end(number: int, left: str, right: str) -> None:
    assert grouped(number, "comma_l2r") == left and grouped(number, "comma_r2l") == right
    assert grouped(number, "space_r2l") == right.replace(",", " ")
    assert grouped(number, "nosep") == str(number)


@pytest.mark.parametrize("said, found", [
    ("1,234,567", "1,234,567"), (" 12 345\n", "12 345"), ("It is 7.", "7"), ("1foo2", "1foo2"),
    ("12 or 34", None), ("none", None), ("", None), ("1, 2", "1, 2"), ("3-4", None),
])  # fmt: skip
def test_a_reply_has_one_number(said: str, found: str | None) -> None:
    assert number_in(said) == found


def test_every_pair_of_lengths_has_as_many_samples() -> None:
    (task,) = tasks_of("addition(shots=2)/nosep")
    pairs = Counter()
    for sample in task.samples(wanted(400, 18)):
        *solved, asked = sample.question.split("\n")
        a, b = asked.removesuffix("=").split("+")
        pairs[len(a), len(b)] += 1
        assert sample.references == (str(int(a) + int(b)),)
        for each in solved:
            c, _, d = each.partition("=")[0].partition("+")
            assert (len(c), len(d)) == (len(a), len(b))
            assert int(each.partition("=")[2]) == int(c) + int(d)
    assert len(pairs) == 9 and set(pairs.values()) == {2}


def test_directions_ask_for_the_same_sums() -> None:
    ways = [task.samples(wanted(600, 9)) for task in tasks_of("addition")]
    assert len(ways) == len(Addition.tasks)
    for same in zip(*ways, strict=True):
        assert len({each.facts["sum"] for each in same}) == 1


def test_a_right_sum_in_another_grouping_is_right_and_of_another_format() -> None:
    task, sample = one("addition(shots=0)/comma_r2l", 300)
    right = sample.facts["sum"]
    assert task.score(f" {right}", sample)["right"] == 1.0
    assert task.score(f" {right}", sample)["format"] == 0.0
    assert task.score(grouped(right, "comma_r2l"), sample)["format"] == 1.0
    assert task.score(f"{right + 1}", sample)["right"] == 0.0
    assert task.score(f"{right} or 7-{right}", sample)["right"] == 0.0


def test_sums_that_are_longer_have_a_figure_of_their_own() -> None:
    (task,) = tasks_of("addition/nosep")
    for sample in task.samples(wanted(600, 18)):
        longer = "carried" in task.score("1", sample)
        a, b = sample.question.split("\n")[-1].removesuffix("=").split("+")
        assert longer == (len(str(int(a) + int(b))) > max(len(a), len(b)))


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(LengthwiseError, match="low=9 is more than high=7"):
        tasks_of("addition(low=9, high=7)")
    with pytest.raises(LengthwiseError, match="no sample of 40 tokens; give more, or fewer shots"):
        tasks_of("addition(shots=20)/nosep")[0].samples(wanted(40))
