"""Bin packing fills rows as a search of all rows does."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings, strategies as st

from lengthwise._utils.bins import best_fit_decreasing


def naive_best_fit(lengths: list[int], room: int) -> list[int]:
    free: list[int] = []
    for length in lengths:
        fitting = [(left, row) for row, left in enumerate(free) if left >= length]
        if fitting:
            free[min(fitting)[1]] -= length
        else:
            free.append(room - length)
    return sorted(free)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=80))
def test_best_fit_fills_rows_as_a_search_of_all_rows_does(lengths: list[int]) -> None:
    falling = sorted(lengths, reverse=True)
    row = best_fit_decreasing(falling, 50)
    used = np.bincount(row, weights=falling)
    assert sorted((50 - used).astype(int)) == naive_best_fit(falling, 50)
