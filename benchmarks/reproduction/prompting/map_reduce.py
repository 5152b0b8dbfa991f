"""Map-reduce: what the notes of a small model keep of what is planted, beside plain retrieval."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.prompting.evidence import LENGTH, NOTED, row


@check(NOTED)
def map_reduce(encoder: str, length: int = LENGTH, seeds: int = 1) -> Iterator[Found]:
    """Evidence kept at 10% of the tokens, and at less, where notes become notes again. The encoder
    is the folder of one."""
    yield row("map_reduce(budget=10%)", length, seeds, others=True)
    yield row("map_reduce(budget=2%)", length, seeds, others=True)
    yield row("bm25(budget=10%)", length, seeds, others=True)
    found = row(f'dense(budget=10%, encoder="{encoder}")', length, seeds, others=True)
    yield found | {"recipe": "`dense(budget=10%)`"}
