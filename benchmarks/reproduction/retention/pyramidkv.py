"""PyramidKV beside SnapKV with its own window and with PyramidKV's: see copying.py."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.retention.copying import WORDS_IN_PROMPT, bench

from lengthwise.methods.base import Budget, Method
from lengthwise.methods.retention.pyramidkv import PyramidKV
from lengthwise.methods.retention.snapkv import SnapKV

TOKENS = "tokens a layer, on average"
KINDS = {
    "SnapKV, its paper: 32 votes": SnapKV,
    "SnapKV, 8 votes": partial(SnapKV, window=8),
    "PyramidKV, 8 votes": PyramidKV,
    "PyramidKV, `beta=2`": partial(PyramidKV, beta=2),
    "PyramidKV, 32 votes": partial(PyramidKV, window=32),
}
KERNELS = {
    "SnapKV, 8 votes, max of 31": partial(SnapKV, window=8, kernel=31),
    "`pyramidkv(kernel=31)`": partial(PyramidKV, kernel=31),
    "SnapKV, 8 votes, max of 15": partial(SnapKV, window=8, kernel=15),
    "`pyramidkv(kernel=15)`": partial(PyramidKV, kernel=15),
}


def rows(kinds: dict[str, partial[Method]], budgets: tuple[int, ...]) -> Iterator[Found]:
    """A row a budget, a column a kind of method."""
    methods: dict[str, Method | None] = {
        f"{kind}, {tokens}": make(budget=Budget(tokens))
        for tokens in budgets for kind, make in kinds.items()
    }  # fmt: skip
    found = bench().copies(methods, WORDS_IN_PROMPT)
    for tokens in budgets:
        yield {TOKENS: tokens, **{kind: found[f"{kind}, {tokens}"] for kind in kinds}}


@check({TOKENS: "", **dict.fromkeys(KINDS, ".2f")})
def pyramidkv(budgets: tuple[int, ...] = (64, 96, 128, 256, 512, 1024, 2048)) -> Iterator[Found]:
    """The paper's budgets."""
    yield from rows(KINDS, budgets)  # type: ignore[arg-type]


@check({TOKENS: "", **dict.fromkeys(KERNELS, ".2f")})
def kernels(budgets: tuple[int, ...] = (256, 512, 1024)) -> Iterator[Found]:
    """Votes spread further, for the best known settings."""
    yield from rows(KERNELS, budgets)  # type: ignore[arg-type]
