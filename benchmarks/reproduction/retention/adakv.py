"""Ada-KV beside SnapKV at the same bytes, with both safeguards: see copying.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.retention.copying import WORDS_IN_PROMPT, bench

from lengthwise.methods.base import Budget, Method
from lengthwise.methods.retention.adakv import AdaKV
from lengthwise.methods.retention.snapkv import SnapKV

BUDGETS = (256, 512, 1024)
KINDS: Mapping[str, tuple[type[AdaKV | SnapKV], Mapping[str, Any]]] = {
    "`snapkv`": (SnapKV, {}),
    "`adakv`": (AdaKV, {}),
    "`adakv(safeguard=floor)`": (AdaKV, {"safeguard": "floor"}),
    "`snapkv(window=8, kernel=31)`": (SnapKV, {"window": 8, "kernel": 31}),
    "`adakv(window=8, kernel=31)`": (AdaKV, {"window": 8, "kernel": 31}),
}


@check({"tokens kept": "", **dict.fromkeys(KINDS, ".2f")})
def adakv(budgets: tuple[int, ...] = BUDGETS) -> Iterator[Found]:
    """The paper's setting and that which is best known for SnapKV, shared out and not."""
    methods: dict[str, Method | None] = {"full": None}
    for tokens in budgets:
        for kind, (cls, given) in KINDS.items():
            methods[f"{kind}, {tokens}"] = cls(budget=Budget(tokens), **given)
    found = bench().copies(methods, WORDS_IN_PROMPT)
    for tokens in budgets:
        yield {"tokens kept": tokens, **{kind: found[f"{kind}, {tokens}"] for kind in KINDS}}
    yield Note(full=found["full"])


@check({"512 tokens": "", "loss of the copy": ".2f"})
def settings() -> Iterator[Found]:
    """How much of the budget all heads get alike, at 512 tokens; the best first."""
    given: list[dict[str, Any]] = [{"alpha": alpha} for alpha in (0.0, 0.2, 0.5, 1.0)]
    given += [{"alpha": alpha, "window": 8, "kernel": 31} for alpha in (0.0, 0.2, 0.5, 1.0)]
    given += [{"safeguard": "floor", "window": 8, "kernel": 31}]
    methods = [AdaKV(budget=Budget(512), **each) for each in given]
    found = bench().copies({f"`{each}`": each for each in methods}, WORDS_IN_PROMPT)
    for name in sorted(found, key=lambda name: found[name]["mean"]):
        yield {"512 tokens": name, "loss of the copy": found[name]}
