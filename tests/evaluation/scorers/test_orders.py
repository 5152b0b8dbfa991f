"""Permutations, prefixes and rankings."""

from __future__ import annotations

from itertools import permutations
from math import log2

import pytest

from lengthwise.evaluation.scorers.orders import (
    list_prefix,
    matched_prefix,
    mrr,
    ndcg,
    permutation,
    ranking,
    recall,
)

GOLD = "[2, 1, 4, 3]"


def test_one_permutation_in_twenty_four_is_right() -> None:
    hits = [permutation(f"Answer: {list(each)}", [GOLD]) for each in permutations(range(1, 5))]
    assert sum(hits) == 1


@pytest.mark.parametrize("reply", ["[]", "Answer: [2]", "[2, 1, 4, 3, 5]"])
def test_a_list_of_another_length_counts_for_the_released_code_alone(reply: str) -> None:
    assert permutation(reply, [GOLD], compat=True) == 1
    assert permutation(reply, [GOLD]) == 0


@pytest.mark.parametrize("compat", [False, True])
def test_what_is_no_list_is_read_digit_by_digit(compat: bool) -> None:
    assert permutation("the order is 2, 1, 4, 3.", [GOLD], compat=compat) == 1
    assert permutation("2 1 4 3 or 2 4 1 3 1", [GOLD], compat=compat) == 0
    assert permutation("7", [GOLD], compat=compat) == 0
    assert permutation("[" * 10_000, [GOLD], compat=compat) == 0


def test_the_first_difference_ends_a_prefix() -> None:
    assert matched_prefix("abx", "abcd") == 0.5
    assert matched_prefix("abcde", "abcd") == 1
    assert matched_prefix("", "abcd") == 0
    assert list_prefix(" a\n\nb\nx\nd", ["a", "b", "c", "d"]) == 0.5


def test_rankings_are_read() -> None:
    assert ranking("3 > 1 > 2") == ["3", "1", "2"]
    assert ranking("2024: [ID: 10] > [ID: 7] > ID 10") == ["10", "7"]
    assert ranking("none") == ["none"]


def test_gains_by_hand() -> None:
    grades = {"1": 2.0, "2": 0.0, "3": 1.0}
    best = 2 + 1 / log2(3)
    assert ndcg("3 > 1 > 2", ["1", "3"], grades=grades) == pytest.approx((1 + 2 / log2(3)) / best)
    assert ndcg("1 > 3", ["1", "3"]) == pytest.approx(1)
    assert ndcg("2", ["1"]) == 0


def test_the_first_relevant_id_and_how_many_are_found() -> None:
    assert mrr("4 > 5 > 1", ["1", "2"]) == pytest.approx(1 / 3)
    assert mrr("4 > 5", ["1"]) == 0
    assert recall("4 > 5 > 1", ["1", "2"]) == 0.5
    assert recall("4 > 5 > 1", ["1", "2"], k=2) == 0
