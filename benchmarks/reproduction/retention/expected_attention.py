"""Expected Attention, where the prompt's end asks for the list and where nothing does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.retention.copying import LENGTH, WORDS_IN_PROMPT, bench

from lengthwise.methods.base import Budget, Method
from lengthwise.methods.retention.adakv import AdaKV
from lengthwise.methods.retention.expected_attention import ExpectedAttention
from lengthwise.methods.retention.snapkv import SnapKV

BUDGETS = (512, 1024, 2048)
KINDS: Mapping[str, tuple[type[AdaKV | ExpectedAttention | SnapKV], Mapping[str, Any]]] = {
    "`expected_attention`": (ExpectedAttention, {}),
    "`expected_attention(adaptive=true)`": (ExpectedAttention, {"adaptive": True}),
    "`snapkv(window=8, kernel=31)`": (SnapKV, {"window": 8, "kernel": 31}),
    "`adakv(window=8, kernel=31)`": (AdaKV, {"window": 8, "kernel": 31}),
}
# Keeps everything, and reads as the others do.
WHOLE = ExpectedAttention(budget=Budget(2 * LENGTH))


@check({"words of the copy in the prompt": "", "tokens kept": "", **dict.fromkeys(KINDS, ".2f")})
def expected_attention(budgets: tuple[int, ...] = BUDGETS) -> Iterator[Found]:
    """The paper's setting, heads that share, and methods that ask the prompt's last queries."""
    methods: dict[str, Method | None] = {"full": WHOLE}
    for tokens in budgets:
        for kind, (cls, given) in KINDS.items():
            methods[f"{kind}, {tokens}"] = cls(budget=Budget(tokens), **given)
    for words in (WORDS_IN_PROMPT, 0):
        found = bench().copies(methods, words, under=WHOLE)
        column = {"words of the copy in the prompt": words}
        for tokens in budgets:
            row = {kind: found[f"{kind}, {tokens}"] for kind in KINDS}
            yield column | {"tokens kept": tokens} | row
        yield column | {"tokens kept": "all: full attention", next(iter(KINDS)): found["full"]}


@check({"1,024 tokens": "", "loss of the copy": ".2f"})
def settings() -> Iterator[Found]:
    """What each part of the score is worth, at a quarter of the text; the best first."""
    given: list[dict[str, Any]] = [
        {}, {"epsilon": 0.0}, {"epsilon": 0.01}, {"epsilon": 0.1}, {"covariance": False},
        {"value_norm": False}, {"future": 64}, {"future": 4096}, {"recent": 32},
        {"adaptive": True}, {"adaptive": True, "epsilon": 0.0}, {"adaptive": True, "epsilon": 0.01},
    ]  # fmt: skip
    methods = [ExpectedAttention(budget=Budget(1024), **each) for each in given]
    named = {f"`{each}`": each for each in methods}
    found = bench().copies(named, WORDS_IN_PROMPT, under=WHOLE)
    for name in sorted(found, key=lambda name: found[name]["mean"]):
        yield {"1,024 tokens": name, "loss of the copy": found[name]}
