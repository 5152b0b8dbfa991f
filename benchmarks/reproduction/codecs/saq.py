"""Fewer bits for older entries against as many bits for all of them, at equal bytes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from benchmarks.reproduction.harness import Found, check, load, reference
from torch import Tensor

from lengthwise.api.model import Model
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force

PROMPT, NEXT, BLOCK, STRETCHES = 2048, 96, 16, 3
RECIPES = (
    "int8(residual=128)",
    "kivi(bits=4)",
    "saq(a2=640, a3=1088)",
    "saq(a2=640, a3=1088, first=32)",
    "saq",
    "saq(first=32)",
    "kivi(bits=2)",
    "saq(a2=128, a3=128, first=32)",
)


def told(sequence: Sequence, after: list[int]) -> Tensor:
    """Log-probabilities `[tokens, vocab]` of every next token behind a prompt that ends here."""
    sequence.end_prefill()
    return torch.log_softmax(teacher_force(sequence, after, BLOCK).float(), -1)


def measured(model: Model, start: int) -> Iterator[tuple[str, int, float, float]]:
    """Bytes, loss and KL of each recipe on one stretch, which is read once for all of them."""
    document = reference(model)
    read = Sequence(model.adapted, expected=PROMPT + NEXT)
    prefill(read, document[start : start + PROMPT])
    after = document[start + PROMPT : start + PROMPT + NEXT]
    truth: Tensor | None = None
    for recipe in ("full", *RECIPES):
        fork = read.fork(model.plan(recipe))
        found = told(fork, after)
        truth = found if truth is None else truth
        right = torch.tensor(after)[:, None]
        kl = (truth.exp() * (truth - found)).sum(-1).mean()
        yield recipe, fork.nbytes(), -float(found.gather(1, right).mean()), float(kl)


@check({"recipe": "", "KV bytes": "", "loss": ".3f", "KL to full": ".4f"})
def saq() -> Iterator[Found]:
    """The 96 tokens behind 2,048 of the default document, three stretches of it: `kivi` has as many
    bits for all that is encoded, `saq` fewer for older entries. All keep the newest 128 plain."""
    model = load("bf16")
    rows: dict[str, list[tuple[int, float, float]]] = {}
    for n in range(STRETCHES):
        for recipe, *found in measured(model, n * len(reference(model)) // STRETCHES):
            rows.setdefault(recipe, []).append(tuple(found))  # type: ignore[arg-type]
    for recipe, each in rows.items():
        size, loss, kl = (sum(column) / len(each) for column in zip(*each, strict=True))
        yield {"recipe": f"`{recipe}`", "KV bytes": int(size), "loss": loss, "KL to full": kl}
