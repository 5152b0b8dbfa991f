"""InfiniRetri: what it keeps of what is planted, and of a needle in a million tokens."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.prompting.evidence import COLUMNS, baselines, row
from benchmarks.reproduction.prompting.haystack import HAYSTACK, asked

LONG = "infiniretri(budget=512, chunk=2048, depth=0.6)"
PLAIN = "bm25(budget=512)"


@check(COLUMNS)
def infiniretri(length: int = 8192, seeds: int = 1, encoder: str = "") -> Iterator[Found]:
    """Evidence kept at 10% of the tokens, by the layer that is looked at."""
    yield from baselines(10, length, seeds)
    for options in ("", ", depth=0.75", ", depth=0.6"):
        yield row(f"infiniretri(budget=10%{options})", length, seeds)
    yield row("bm25(budget=10%)", length, seeds)
    if encoder:
        found = row(f'dense(budget=10%, encoder="{encoder}")', length, seeds)
        yield found | {"recipe": "`dense(budget=10%)`"}


@check(HAYSTACK)
def million(
    lengths: tuple[int, ...] = (1 << 16, 1 << 18, 1 << 20), depth: float = 0.1
) -> Iterator[Found]:
    """A needle in books of 64k to a million tokens, and the most memory that was held."""
    for length in lengths:
        yield asked(PLAIN, length, depth)
        yield asked(LONG, length, depth)
