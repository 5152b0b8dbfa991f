"""Dense retrieval: what an encoder's vectors find of what is planted."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.prompting.evidence import COLUMNS, LENGTH, SEEDS, row


@check(COLUMNS)
def dense(encoder: str, length: int = LENGTH, seeds: int = SEEDS) -> Iterator[Found]:
    """Evidence kept at shares of the tokens. The encoder is the folder of one."""
    for budget in ("10%", "5%", "2%"):
        found = row(f'dense(budget={budget}, encoder="{encoder}")', length, seeds)
        yield found | {"recipe": f"`dense(budget={budget})`"}
    yield row("bm25(budget=2%)", length, seeds)
