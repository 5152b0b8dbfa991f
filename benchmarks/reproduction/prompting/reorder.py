"""Reordering: the passages of BM25 in another order keep the same evidence."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.prompting.evidence import COLUMNS, LENGTH, SEEDS, row


@check(COLUMNS)
def reorder(length: int = LENGTH, seeds: int = SEEDS) -> Iterator[Found]:
    """Evidence kept at shares of the tokens."""
    for options in ("budget=10%", "budget=5%"):
        yield row(f"reorder({options})", length, seeds)
    yield row("bm25(budget=10%)", length, seeds)
