"""SnapKV at several budgets, windows and kernels: see copying.py."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.retention.copying import WORDS_IN_PROMPT, bench

from lengthwise.methods.base import Budget, Method
from lengthwise.methods.retention.snapkv import SnapKV
from lengthwise.methods.retention.streaming import Streaming

BUDGETS = (256, 512, 1024, 2048)
KINDS = {
    "paper: 32 votes, max of 7": {},
    "code without configuration: average of 5": {"kernel": 5, "pooling": "avg"},
    "`window=8`": {"window": 8},
    "`window=8, kernel=31`": {"window": 8, "kernel": 31},
}


@check({"tokens kept": "", **dict.fromkeys(KINDS, ".2f")})
def snapkv(budgets: tuple[int, ...] = BUDGETS) -> Iterator[Found]:
    """The paper's setting, the code's own defaults and fewer votes, where the first words of the
    second copy are in the voting window; and where they are not."""
    chosen = bench()
    methods: dict[str, Method | None] = {"full": None}
    for tokens in budgets:
        for kind, given in KINDS.items():
            methods[f"{kind}, {tokens}"] = SnapKV(budget=Budget(tokens), **given)  # type: ignore[arg-type]
    recency: dict[str, Method] = {"recency": Streaming(sinks=4, window=508)}
    found = chosen.copies(methods, WORDS_IN_PROMPT, recency)
    for tokens in budgets:
        yield {"tokens kept": tokens, **{kind: found[f"{kind}, {tokens}"] for kind in KINDS}}
    yield Note(full=found["full"], recency=found["recency"])
    unasked = {"full": None, "snapkv(budget=512)": SnapKV(budget=Budget(512)),
               "snapkv(budget=512, window=8)": SnapKV(budget=Budget(512), window=8)}  # fmt: skip
    yield Note(no_word_in_the_window=chosen.copies(unasked, 0))


@check({"512 tokens": "", "loss of the copy": ".2f"})
def settings() -> Iterator[Found]:
    """How many queries vote, and how far a vote spreads, at 512 tokens; the best first."""
    budget = Budget(512)
    methods = [SnapKV(budget=budget, window=w) for w in (1, 2, 4, 8, 16, 32, 64)]
    methods += [SnapKV(budget=budget, window=8, kernel=k) for k in (1, 5, 15, 31)]
    methods += [SnapKV(budget=budget, kernel=k) for k in (15, 31, 63)]
    methods += [SnapKV(budget=budget, window=8, pooling="avg")]
    methods += [SnapKV(budget=budget, window=16, kernel=31)]
    found = bench().copies({f"`{each}`": each for each in methods}, WORDS_IN_PROMPT)
    for name in sorted(found, key=lambda name: found[name]["mean"]):
        yield {"512 tokens": name, "loss of the copy": found[name]}
