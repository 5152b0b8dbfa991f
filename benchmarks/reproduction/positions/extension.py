"""Changes of positions beyond the trained length, untuned, and what each costs within it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.planted import PLANTED, Bench, bench, mean

from lengthwise.methods.base import Method
from lengthwise.recipes import parse

LONG, SHORT = 12_288, 2_048
WITHIN, BEYOND = "2,048 tokens", "12,288: text"
COLUMNS = {"recipe": "", WITHIN: ".3f", BEYOND: ".3f",
           **{name: how for name, how in PLANTED.items() if name != "text"}}  # fmt: skip
RECIPES = (
    "full", "pi(factor=2)", "ntk(factor=2)", "dynamic_ntk", "yarn(factor=2)",
    "giraffe(truncate=8192)", "self_extend",
)  # fmt: skip


def rows(bench: Bench, methods: Iterable[Method | None]) -> Iterator[Found]:
    """A row a method: the first 2,048 tokens, and what is asked of 12,288."""
    for method in methods:
        losses = bench.read(method, bench.document()[:SHORT])[1]
        found = bench.look_back(method, LONG)
        beyond = {BEYOND: found.pop("text"), **found}
        yield {"recipe": f"`{method or 'full'}`", WITHIN: mean(losses, 64), **beyond}


@check(COLUMNS)
def extension(recipes: tuple[str, ...] = RECIPES) -> Iterator[Found]:
    """Losses within 2,048 tokens and at 12,288, where the model was trained to 8,192."""
    parsed = [parse(recipe).methods for recipe in recipes]
    yield from rows(bench(), (methods[0] if methods else None for methods in parsed))
