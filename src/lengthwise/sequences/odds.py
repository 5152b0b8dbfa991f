"""Odds by which a curriculum draws its buckets: the entry points `lengthwise.curricula`.

Each takes i and n and gives the odds of the i-th of n buckets, short to long, at the start of a
cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, cast

from lengthwise._utils.registry import Registry
from lengthwise.sequences.errors import SequenceError

Odds: TypeAlias = Callable[[int, int], float]


def uniform(i: int, n: int) -> float:
    """1 : 1 : ... : 1"""
    return 1.0


def grow_linear(i: int, n: int) -> float:
    """n : n - 1 : ... : 1"""
    return float(n - i)


def grow_p2(i: int, n: int) -> float:
    """2^(n-1) : 2^(n-2) : ... : 1"""
    return 2.0 ** (n - 1 - i)


def grow_p100(i: int, n: int) -> float:
    """100^(n-1) : 100^(n-2) : ... : 1"""
    return 100.0 ** (n - 1 - i)


def shrink_p100(i: int, n: int) -> float:
    """1 : 100 : ... : 100^(n-1)"""
    return 100.0**i


def _check(name: str, found: object) -> Odds:
    if not callable(found):
        raise TypeError("it is no function of the number of a bucket and how many there are")
    first = found(0, 1)
    if not isinstance(first, float | int) or not first > 0:
        raise ValueError(f"the odds of a bucket are numbers above zero, not {first!r}")
    return cast(Odds, found)


ODDS: Registry[Odds] = Registry("lengthwise.curricula", "curriculum", _check, SequenceError)


__all__ = ["ODDS", "Odds"]
