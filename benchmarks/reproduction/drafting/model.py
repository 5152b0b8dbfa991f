"""The model as its own second model, with its tokens as they are and translated through text."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.drafting.asking import COLUMNS, Starter, adapted, of_kinds
from benchmarks.reproduction.harness import Found, check

from lengthwise.engine.plan import Plan
from lengthwise.methods.drafting.model import SecondModel, SecondModelDrafter, TranslatingDrafter


@check({"tokens a round": "", **COLUMNS})
def translation() -> Iterator[Found]:
    """Nothing of a right guess is lost on its way."""
    model, method = adapted(), SecondModel(width=1)
    tokenizer = model.tokenizer
    assert tokenizer is not None
    starters: dict[str, Starter] = {
        "tokens shared": lambda: SecondModelDrafter(method, model, Plan()),
        "translated through text and back":
            lambda: TranslatingDrafter(method, model, Plan(), tokenizer, tokenizer),
    }  # fmt: skip
    for name, row in of_kinds(starters):
        rounds = {kind: cell["tokens a round"] for kind, cell in row.items()}
        yield {"tokens a round": name, **rounds}
