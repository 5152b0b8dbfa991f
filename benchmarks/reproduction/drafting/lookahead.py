"""Lookahead on five prompts: the README's N, W, G and the paper's, and its parts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.reproduction.drafting.five_prompts import COLUMNS, bench
from benchmarks.reproduction.harness import Found, check

from lengthwise.methods.drafting.lookahead import Lookahead, LookaheadDrafter

SETTINGS = (
    Lookahead(), Lookahead(window=15, guesses=15), Lookahead(prompt=True),
    Lookahead(window=15, guesses=15, prompt=True), Lookahead(window=0, prompt=True),
    Lookahead(guesses=0),
)  # fmt: skip


@check({"setting": "", **COLUMNS})
def lookahead() -> Iterator[Found]:
    """With the pool filled from the text too, and parts alone."""
    chosen = bench()
    for options in SETTINGS:
        yield {"setting": f"`{options}`", **chosen.row(partial(LookaheadDrafter, options))}
    beside = chosen.row(partial(LookaheadDrafter, Lookahead()), chosen.recycling())
    yield {"setting": "`lookahead + recycling`", **beside}
