"""BM25: what it keeps of what is planted, at equal tokens with the beginning and with chance."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.prompting.evidence import COLUMNS, LENGTH, SEEDS, baselines, row


@check(COLUMNS)
def bm25(length: int = LENGTH, seeds: int = SEEDS) -> Iterator[Found]:
    """Evidence kept at 10% of the tokens and at less, and by the size of passages."""
    yield from baselines(10, length, seeds)
    for options in ("budget=10%", "budget=5%", "budget=2%", "budget=10%, passage=32",
                    "budget=10%, passage=512"):  # fmt: skip
        yield row(f"bm25({options})", length, seeds)
