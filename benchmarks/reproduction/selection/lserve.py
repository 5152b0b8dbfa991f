"""LServe: pages with sub-pages and without, choices that are used again, streaming heads beside."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.selection.copying import (
    COPY,
    TEXT,
    copy_and_text,
    masses,
    mean,
    setting,
)  # fmt: skip

from lengthwise.engine.plan import FULL
from lengthwise.methods.selection.lserve import LServe
from lengthwise.recipes import resolve

LENGTH = 2048
BUDGET = 512
SUBPAGES = (64, 32, 16, 8)


@check({"recipe": "", COPY: ".3f", TEXT: ".3f"})
def lserve(length: int = LENGTH, budget: int = BUDGET, lists: int = 1) -> Iterator[Found]:
    """Full attention, streaming heads alone, pages alone, both, and choices of one step."""
    model, _ = setting(length)
    copied, text = copy_and_text(FULL, length, lists=lists)
    yield {"recipe": "`full`", COPY: copied, TEXT: text}
    for recipe in (
        "lserve",
        f"lserve(budget={budget}, heads=1)",
        f"lserve(budget={budget})",
        f"lserve(budget={budget}, reuse=1)",
        f"lserve(budget={budget}, subpage=64)",
        f"lserve(budget={budget}) + int8",
    ):
        copied, text = copy_and_text(resolve(recipe, model), length, lists=lists)
        yield {"recipe": f"`{recipe}`", COPY: copied, TEXT: text}


@check({"sub-pages of": "", **{str(size): ".3f" for size in SUBPAGES}})
def subpages(length: int = LENGTH, budget: int = BUDGET) -> Iterator[Found]:
    """MASS of pages of 64 tokens by the size of their sub-pages, all heads choosing."""
    found = {
        str(size): mean(masses(LServe(budget, heads=1.0, subpage=size), length)["mass"])
        for size in SUBPAGES
    }
    yield {"sub-pages of": f"MASS at {budget} tokens", **found}
