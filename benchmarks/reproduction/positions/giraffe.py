"""Giraffe's scale together with a truncated basis: scaled, then truncated, as the authors do."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.planted import bench
from benchmarks.reproduction.positions.extension import COLUMNS, rows

from lengthwise.methods.positions.giraffe import Giraffe


@check(COLUMNS)
def order() -> Iterator[Found]:
    """A scale of 2 and a basis truncated at the trained length."""
    chosen = bench()
    yield from rows(chosen, [Giraffe(scale=2, truncate=chosen.model.trained_length)])
