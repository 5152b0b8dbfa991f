"""What greedy texts repeat, and what a text is like that may not."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check, load

from lengthwise.recipes import parse

OPENINGS = (
    "The sea was calm, and", "In the first chapter of this book we", "My favourite recipe is",
    "The history of the town begins", "To install the program,", "Dear Sir,",
)  # fmt: skip


@check({"recipe": "", "texts": "", "repeated trigrams": ".1%", "repeated 8-grams": ".1%",
        "nats a token": ".3f"})  # fmt: skip
def no_repeat_ngram(new: int = 128) -> Iterator[Found]:
    """Greedy texts of the embedded model: trigrams that stood before, and the model's own loss."""
    model = load()
    for recipe in ("full", "no_repeat_ngram(size=3)", "no_repeat_ngram(size=8)"):
        threes = eights = loss = 0.0
        for opening in OPENINGS:
            found = model.generate(opening, parse(recipe), max_new_tokens=new, stop_ids=[])
            threes += repeated(found.token_ids, 3)
            eights += repeated(found.token_ids, 8)
            ids = [*model.encode(opening), *found.token_ids]
            loss -= float(model.score(ids)[-len(found.token_ids) :].mean())
        yield {
            "recipe": recipe, "texts": len(OPENINGS), "repeated trigrams": threes / len(OPENINGS),
            "repeated 8-grams": eights / len(OPENINGS), "nats a token": loss / len(OPENINGS),
        }  # fmt: skip


def repeated(text: list[int], size: int) -> float:
    """The share of the tokens in a row that stood before."""
    grams = [tuple(text[at : at + size]) for at in range(len(text) - size + 1)]
    return 1 - len(set(grams)) / len(grams)
