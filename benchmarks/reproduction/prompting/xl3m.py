"""XL3M: what segments chosen by certainty keep of what is planted."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.prompting.evidence import COLUMNS, baselines, row


@check(COLUMNS)
def xl3m(length: int = 8192, seeds: int = 1) -> Iterator[Found]:
    """Evidence kept at shares of the tokens, and with the question in the chat template."""
    yield from baselines(10, length, seeds)
    for options in ("budget=10%", "budget=30%", "budget=30%, ask=chat"):
        yield row(f"xl3m({options})", length, seeds)
    yield row("bm25(budget=10%)", length, seeds)
