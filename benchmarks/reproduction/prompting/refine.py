"""Refine: what the running notes of a small model keep of what is planted, beside retrieval."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.prompting.evidence import NOTED, row


@check(NOTED)
def refine(encoder: str, length: int = 4096, seeds: int = 1) -> Iterator[Found]:
    """Evidence kept at 10% of the tokens, by the length of the notes. The encoder is the folder of
    one."""
    yield row("refine(budget=10%, note=64)", length, seeds, others=True)
    yield row("refine(budget=10%)", length, seeds, others=True)
    yield row("bm25(budget=10%)", length, seeds, others=True)
    found = row(f'dense(budget=10%, encoder="{encoder}")', length, seeds, others=True)
    yield found | {"recipe": "`dense(budget=10%)`"}
