"""YaRN's attention factor: the paper's beside none and a larger one."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.planted import bench
from benchmarks.reproduction.positions.extension import COLUMNS, rows

from lengthwise.methods.positions.yarn import YaRN


@check(COLUMNS)
def attention() -> Iterator[Found]:
    """The paper's attention factor beside none and a larger one."""
    yield from rows(bench(), (YaRN(factor=2, attention=each) for each in (None, 1.0, 1.15)))
