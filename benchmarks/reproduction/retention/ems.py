"""EMS beside its twin that only evicts: 256 tokens a head of a prompt of 2,048, at six places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.retention.copying import AFTER, bench, means

from lengthwise.methods.base import Budget, Method
from lengthwise.methods.retention.ems import EMS
from lengthwise.methods.retention.snapkv import SnapKV

PROMPT = 2048
PLACES = 6
TOKENS = 256


def losses(methods: Mapping[str, Method | None], places: int) -> Iterator[Found]:
    """Loss of what follows the prompt, a row a method, after one reading that sums attention up."""
    chosen = bench()
    found: dict[str, list[float]] = {name: [] for name in methods}
    for place in range(places):
        ids = chosen.document()[10_000 * place :][: PROMPT + AFTER]
        read = chosen.read(ids[:PROMPT], EMS())
        for name, method in methods.items():
            given = EMS(budget=Budget(PROMPT)) if method is None else method
            found[name].append(chosen.after(read, given, ids[PROMPT:], 0))
    for name, each in found.items():
        row = means(each)
        yield {"256 tokens": name, "loss": row["mean"], "at the places": row["each"]}


def named(*methods: Method) -> dict[str, Method | None]:
    return {f"`{method}`": method for method in methods}


@check({"256 tokens": "", "loss": ".3f", "at the places": ".3f"})
def ems(places: int = PLACES) -> Iterator[Found]:
    """The paper's merging, its twin, weights, and what others keep at the same bytes."""
    budget = Budget(TOKENS)
    methods = named(
        EMS(), EMS(weigh="mass"), EMS(weigh="members"), EMS(merge=False), SnapKV(budget=budget)
    )  # fmt: skip
    yield from losses({"everything": None, **methods}, places)


@check({"256 tokens": "", "loss": ".3f", "at the places": ".3f"})
def settings(places: int = 3) -> Iterator[Found]:
    """How like an entry has to be that is merged, and how much of the score is worth it."""
    methods = [EMS(threshold=threshold, weigh="members") for threshold in (0.2, 0.4, 0.8, 0.9)]
    methods += [EMS(useful=useful, weigh="members") for useful in (0.8, 1.0)]
    yield from losses(named(*methods), places)
