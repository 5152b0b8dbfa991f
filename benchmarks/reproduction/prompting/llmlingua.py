"""Selective Context: what the model itself cannot guess, keys among it."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.prompting.evidence import COLUMNS, row


@check(COLUMNS)
def llmlingua(length: int = 4096, seeds: int = 1) -> Iterator[Found]:
    """Evidence kept whole, by the unit that is dropped."""
    for options in ("budget=10%", "budget=50%", "budget=50%, unit=sentence"):
        yield row(f"llmlingua({options})", length, seeds)
    yield row("bm25(budget=10%)", length, seeds)
