"""Shared runs, against a search that compares every place with every place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.retrieval import common_runs
from lengthwise.retrieval.common_runs import CommonRun, RunIndex


def slowly(stored: dict[str, list[int]], text: list[int], least: int) -> list[tuple[int, int]]:
    """Start and length of each run."""
    found, start = [], 0
    while start < len(text):
        best = (False, 0)
        for each in stored.values():
            for source in range(len(each)):
                length = 0
                while (
                    start + length < len(text)
                    and source + length < len(each)
                    and text[start + length] == each[source + length]
                ):
                    length += 1
                if length >= least:
                    best = max(best, (start == source == 0, length))
        if best[1]:
            found.append((start, best[1]))
        start += max(1, best[1])
    return found


class Watched(np.ndarray):
    """Counts the numbers that are compared."""

    compared = 0

    def __ne__(self, other: Any) -> Any:
        Watched.compared += len(self)
        return np.asarray(self) != np.asarray(other)


@pytest.mark.parametrize("same", [0, 1, 63, 64, 65, 191, 192, 193, 5000, 9999, 10_000])
def test_no_more_is_compared_than_is_the_same(same: int) -> None:
    first = np.arange(10_000)
    second = first.copy()
    second[same:] += 1
    Watched.compared = 0
    assert common_runs._same(first.view(Watched), second) == same
    assert same <= Watched.compared <= max(common_runs.BLOCK, 4 * same)
    for left in (0, 7, 100):
        assert common_runs._same(first[:left], second) == min(left, same)


TEXTS = st.lists(st.integers(0, 3), max_size=24)


@given(TEXTS, TEXTS, TEXTS, st.integers(2, 5))
@settings(max_examples=150, deadline=None)
def test_runs_are_those_of_comparing_everything(
    one: list[int], two: list[int], text: list[int], least: int
) -> None:
    index, stored = RunIndex(least), {"one": one, "two": two}
    for key, tokens in stored.items():
        index.add(key, tokens)
    found = index.find(text)
    assert [(run.start, run.length) for run in found] == slowly(stored, text, least)
    for run in found:
        assert isinstance(run.key, str)
        there = stored[run.key][run.source : run.source + run.length]
        assert there == text[run.start : run.start + run.length]


def test_texts_come_and_go_and_a_common_beginning_is_taken_first() -> None:
    index = RunIndex(3)
    assert index.find([1, 2, 3, 4]) == []
    index.add("a", [9, 1, 2, 3, 4, 5])
    index.add("b", [1, 2, 3])
    assert index.find([1, 2, 3, 4, 5]) == [CommonRun("b", 0, 0, 3)]
    index.remove("b")
    assert index.find([1, 2, 3, 4, 5]) == [CommonRun("a", 1, 0, 5)]
    assert len(index) == 1 and index.find([1, 2]) == []
