"""Giraffe's evaluation tasks on the embedded model.

Prompts of each length are made from seeds 0 and on and go through the chat template; a reply has up
to 24 tokens. `answer` is the loss in nats a token of the right answer in place of the reply, which
still tells recipes apart where a small model answers few questions.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.book import moby_dick
from benchmarks.reproduction.harness import Found, Row, check, encode, load

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.document_qa import (
    DocumentQuestion,
    altered,
    number_questions,
    placed,
)
from lengthwise.evaluation.tasks.lines import LineCase, fitted_case

LENGTHS = (256, 512)
RECIPES = ("full", "pi(factor=2)", "yarn(factor=2)")
REPLY = 24
# As many sentences of the book have a number of their own.
NUMBERS = 14
Case = LineCase | DocumentQuestion


def cases(
    name: str, model: lengthwise.Model, length: int, count: int
) -> Iterator[tuple[str, Case]]:
    """What is asked, with the name of its column."""

    def tokens(text: str) -> int:
        return len(model.encode(text))

    if name == "lines":
        yield from (("lines", fitted_case(length, tokens, seed)) for seed in range(count))
        return
    found = 0
    for case in number_questions(moby_dick(), NUMBERS, seed=1):
        try:
            cut = placed(case, "bulk", length - 96, tokens)
            other = altered(cut, seed=found)
        except LengthwiseError:
            # Too near to an end of the book, or a number that the cut text holds twice.
            continue
        yield from (("as it stands", cut), ("altered", other))
        found += 1
        if found == count:
            return
    raise SystemExit(f"the book has only {found} questions of {length} tokens: ask for fewer")


def answered(model: lengthwise.Model, case: Case, recipe: str) -> tuple[bool, float]:
    """Whether the reply is right, and the loss of the right answer."""
    messages = [{"role": "user", "content": case.prompt}]
    reply = model.generate(messages, recipe=recipe, max_new_tokens=REPLY).text
    prompt = model.encode(messages)
    answer = str(case.expected) if isinstance(case, LineCase) else case.answer
    ids = encode(model, answer)
    scores = model.score(prompt + ids, recipe, prompt=len(prompt), block=len(ids))
    return case.right(reply), -float(scores.mean())


def rows(
    name: str, lengths: tuple[int, ...], count: int, recipes: tuple[str, ...]
) -> Iterator[Found]:
    """A row a recipe: right replies and the loss of right answers, by length."""
    model = load()
    found: dict[str, Row] = {recipe: {"recipe": f"`{recipe}`"} for recipe in recipes}
    for length in lengths:
        asked = list(cases(name, model, length, count))
        for recipe, row in found.items():
            for column in dict.fromkeys(column for column, _ in asked):
                got = [answered(model, case, recipe) for own, case in asked if own == column]
                about = f"{length} tokens" if name == "lines" else f"{length} tokens, {column}"
                losses = [loss for _, loss in got]
                row[f"{about}: right"] = f"{sum(right for right, _ in got)} of {len(got)}"
                row[f"{about}: answer"] = round(sum(losses) / len(got), 3)
    yield from found.values()


def columns(*about: str) -> dict[str, str]:
    """Those of a table, for the lengths of a page."""
    return {"recipe": "", **{f"{a}: {what}": how for a in about
                             for what, how in (("right", ""), ("answer", ".3f"))}}  # fmt: skip


@check(columns(*(f"{length} tokens" for length in LENGTHS)))
def lines(
    lengths: tuple[int, ...] = LENGTHS, cases: int = 6, recipe: tuple[str, ...] = RECIPES
) -> Iterator[Found]:
    """Line retrieval."""
    yield from rows("lines", lengths, cases, recipe)


@check(columns(*(f"{n} tokens, {how}" for n in LENGTHS for how in ("as it stands", "altered"))))
def numbers(
    lengths: tuple[int, ...] = LENGTHS, cases: int = 6, recipe: tuple[str, ...] = RECIPES
) -> Iterator[Found]:
    """A number left out of a sentence of Moby Dick, asked for as it stands and altered."""
    yield from rows("numbers", lengths, cases, recipe)
