"""Bin packing: pieces of different lengths in as few rows of equal room as is easily found."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable


def best_fit_decreasing(lengths: Iterable[int], room: int) -> list[int]:
    """The row of each piece; lengths must fall and be at most `room`. O(n log n).

    Rows with equal room are interchangeable: `free` holds each amount of room once, in order, and
    `rows_with` the rows that have it.

    Args:
        lengths: of the pieces, the longest first.
        room: of a row.
    """
    free: list[int] = []
    rows_with: dict[int, list[int]] = {}
    found, rows = [], 0
    for length in lengths:
        place = bisect_left(free, length)
        if place == len(free):
            row, left = rows, room - length
            rows += 1
        else:
            had = free[place]
            same = rows_with[had]
            row, left = same.pop(), had - length
            if not same:
                del free[place], rows_with[had]
        found.append(row)
        if left:
            same = rows_with.setdefault(left, [])
            if not same:
                free.insert(bisect_left(free, left), left)
            same.append(row)
    return found


__all__ = ["best_fit_decreasing"]
