"""Expected Attention: a list that the prompt's end asks for or does not, and text that goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.retention.copying import (
    AFTER,
    LENGTH,
    WORDS_IN_PROMPT,
    bench,
    means,
)

from lengthwise.methods.base import Budget, Method
from lengthwise.methods.retention.adakv import AdaKV
from lengthwise.methods.retention.expected_attention import ExpectedAttention
from lengthwise.methods.retention.snapkv import SnapKV
from lengthwise.methods.retention.streaming import Streaming

PROMPT = 2048
# The paper's epsilon; that of the authors' class, and ours, is 0.
PAPERS = 0.02
BUDGETS = (512, 1024, 2048)
KINDS: Mapping[str, tuple[type[AdaKV | ExpectedAttention | SnapKV], Mapping[str, Any]]] = {
    "`expected_attention(epsilon=0.02)`": (ExpectedAttention, {"epsilon": PAPERS}),
    "`expected_attention(epsilon=0.02, adaptive=true)`": (
        ExpectedAttention,
        {"epsilon": PAPERS, "adaptive": True},
    ),
    "`snapkv(window=8, kernel=31)`": (SnapKV, {"window": 8, "kernel": 31}),
    "`adakv(window=8, kernel=31)`": (AdaKV, {"window": 8, "kernel": 31}),
}
# Keeps everything, and reads as the others do.
WHOLE = ExpectedAttention(budget=Budget(2 * LENGTH))


@check({"words of the copy in the prompt": "", "tokens kept": "", **dict.fromkeys(KINDS, ".2f")})
def expected_attention(budgets: tuple[int, ...] = BUDGETS) -> Iterator[Found]:
    """The paper's epsilon, heads that share, and methods that ask the prompt's last queries."""
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
        {"epsilon": PAPERS}, {}, {"epsilon": PAPERS, "covariance": False}, {"value_norm": False},
        {"epsilon": PAPERS, "recent": 32}, {"epsilon": PAPERS, "adaptive": True},
        {"adaptive": True},
    ]  # fmt: skip
    methods = [ExpectedAttention(budget=Budget(1024), **each) for each in given]
    named = {f"`{each}`": each for each in methods}
    found = bench().copies(named, WORDS_IN_PROMPT, under=WHOLE)
    for name in sorted(found, key=lambda name: found[name]["mean"]):
        yield {"1,024 tokens": name, "loss of the copy": found[name]}


@check({"what is kept": "", "loss": ".3f", "at the places": ".3f"})
def text(places: int = 3) -> Iterator[Found]:
    """A quarter of a prompt of 2,048 tokens, and the 256 that follow it, which ask for nothing."""
    budget, chosen = Budget(PROMPT // 4), bench()
    methods: list[Method] = [
        ExpectedAttention(budget=budget, epsilon=PAPERS), ExpectedAttention(budget=budget),
        ExpectedAttention(budget=budget, epsilon=PAPERS, recent=32),
        ExpectedAttention(budget=budget, epsilon=PAPERS, recent=128),
        ExpectedAttention(budget=budget, epsilon=PAPERS, adaptive=True),
        ExpectedAttention(budget=budget, epsilon=PAPERS, adaptive=True, recent=128),
        SnapKV(budget=budget), SnapKV(budget=budget, window=8, kernel=31), AdaKV(budget=budget),
    ]  # fmt: skip
    losses: dict[str, list[float]] = {}
    for start in range(0, 10_000 * places, 10_000):
        ids = chosen.document()[start : start + PROMPT + AFTER]
        read = chosen.read(ids[:PROMPT], WHOLE)
        for name, method in {"everything": WHOLE, **{f"`{m}`": m for m in methods}}.items():
            losses.setdefault(name, []).append(chosen.after(read, method, ids[PROMPT:], 0))
        window = Streaming(sinks=4, window=PROMPT // 4 - 4)
        read = chosen.read(ids[:PROMPT], window)
        losses.setdefault(f"`{window}`", []).append(chosen.after(read, None, ids[PROMPT:], 0))
    found = {name: means(each) for name, each in losses.items()}
    for name in sorted(found, key=lambda name: found[name]["mean"]):
        yield {"what is kept": name, "loss": found[name]["mean"],
               "at the places": found[name]["each"]}  # fmt: skip
