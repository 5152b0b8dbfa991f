"""SEAL: what is kept of what is planted by n-grams that a model without training writes."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.prompting.evidence import COLUMNS, LENGTH, baselines, row


@check(COLUMNS)
def seal(length: int = LENGTH, seeds: int = 1) -> Iterator[Found]:
    """Evidence kept at 10% of the tokens and at less, with the paper's probabilities and ours."""
    yield from baselines(10, length, seeds)
    for options in ("budget=10%", "budget=10%, among=allowed", "budget=2%, among=allowed"):
        yield row(f"seal({options})", length, seeds)
    yield row("bm25(budget=10%)", length, seeds)
