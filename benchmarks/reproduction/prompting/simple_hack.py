"""Simple Hack: what is left of planted evidence without stop words."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.prompting.evidence import COLUMNS, LENGTH, SEEDS, row


@check(COLUMNS)
def simple_hack(length: int = LENGTH, seeds: int = SEEDS) -> Iterator[Found]:
    """Evidence kept whole at 10% of the tokens, by what is kept of the cleaned text."""
    for options in ("budget=10%", "budget=10%, keep=tail", "budget=10%, keep=both", "budget=50%"):
        yield row(f"simple_hack({options})", length, seeds)
    yield row("bm25(budget=10%)", length, seeds)
