"""TOVA: an eighth of a prompt of 2,048 tokens and the 256 that follow; and a copy."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.retention.copying import AFTER, WORDS_IN_PROMPT, bench, means

from lengthwise.methods.base import Budget, Method
from lengthwise.methods.retention.h2o import H2O
from lengthwise.methods.retention.snapkv import SnapKV
from lengthwise.methods.retention.streaming import Streaming
from lengthwise.methods.retention.tova import TOVA

PROMPT = 2048


def settings(tokens: int) -> dict[str, Method]:
    """TOVA, and what the paper holds it against, at the same budget."""
    budget = Budget(tokens)
    return {
        "`tova`": TOVA(budget=budget),
        "`h2o`": H2O(budget=budget),
        "`streaming`: window and 4 sinks": Streaming(sinks=4, window=tokens - 4),
        "`streaming(sinks=0)`: window": Streaming(sinks=0, window=tokens),
    }


@check({"what is kept": "", "tokens": "", "loss": ".3f", "at the places": ".3f"})
def tova(budgets: tuple[int, ...] = (256,), places: int = 4) -> Iterator[Found]:
    """Language modelling after a prompt, where every new token decides again."""
    chosen = bench()
    methods: dict[tuple[str, int], Method | None] = {("everything", PROMPT): None}
    for tokens in budgets:
        methods |= {(name, tokens): method for name, method in settings(tokens).items()}
    for (name, tokens), method in methods.items():
        losses = []
        for start in range(0, 10_000 * places, 10_000):
            ids = chosen.document()[start : start + PROMPT + AFTER]
            read = chosen.read(ids[:PROMPT], method)
            losses.append(chosen.after(read, None, ids[PROMPT:], 0))
        found = means(losses)
        yield {"what is kept": name, "tokens": tokens, "loss": found["mean"],
               "at the places": found["each"]}  # fmt: skip


@check({"tokens kept": "", "`tova`": ".2f", "`snapkv`": ".2f",
        "`snapkv(window=8, kernel=31)`": ".2f"})  # fmt: skip
def copies(budgets: tuple[int, ...] = (512, 1024, 2048)) -> Iterator[Found]:
    """A list of 64 words near the start of 4,096 tokens, whose first 16 end the prompt again."""
    methods: dict[str, Method | None] = {"full": None}
    for tokens in budgets:
        budget = Budget(tokens)
        methods |= {
            f"`tova` {tokens}": TOVA(budget=budget),
            f"`snapkv` {tokens}": SnapKV(budget=budget),
            f"`snapkv(window=8, kernel=31)` {tokens}": SnapKV(budget=budget, window=8, kernel=31),
        }
    found = bench().copies(methods, WORDS_IN_PROMPT)
    for tokens in budgets:
        names = [name for name in found if name.endswith(f" {tokens}")]
        yield {"tokens kept": tokens} | {name.rpartition(" ")[0]: found[name] for name in names}
    yield {"tokens kept": "all: full attention", "`tova`": found["full"]}
