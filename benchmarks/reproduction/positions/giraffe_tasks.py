"""Giraffe's evaluation tasks on the real 135M model.

    python -m benchmarks.checks.giraffe_tasks NAME [--lengths 512 1024] [--cases 8] [--recipe R ...]

NAME is lines (line retrieval) or numbers (a number left out of a sentence of Moby Dick, asked for
as it stands and altered). Prompts of each length are made from seeds 0 and on and go through the
chat template; a reply has up to 24 tokens. Prints one JSON line: for each recipe and length the
share of right replies. `answer` is the loss in nats a token of the right answer in place of the
reply, which still tells recipes apart where a small model answers few questions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from benchmarks.reproduction.book import moby_dick

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.tasks.document_qa import DocumentQuestion, altered, number_questions, placed
from lengthwise.tasks.lines import LineCase, fitted_case

RECIPES = ("full", "pi(factor=2)", "ntk(factor=2)", "yarn(factor=2)", "giraffe(power=0.1, scale=1)")
REPLY = 24
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
    for case in number_questions(moby_dick(), 60, seed=1):
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
    ids = list(model.tokenizer.encode(answer, add_special_tokens=False))  # type: ignore[union-attr]
    scores = model.score(prompt + ids, recipe, prompt=len(prompt), block=len(ids))
    return case.right(reply), -float(scores.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("lines", "numbers"))
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--recipe", action="append", help="in place of the usual ones")
    given = parser.parse_args()
    model = lengthwise.load()
    table: dict[str, Any] = {}
    for length in given.lengths:
        asked = list(cases(given.name, model, length, given.cases))
        for recipe in given.recipe or RECIPES:
            for column in dict.fromkeys(column for column, _ in asked):
                got = [answered(model, case, recipe) for own, case in asked if own == column]
                table.setdefault(recipe, {})[f"{column}, {length}"] = {
                    "right": round(sum(right for right, _ in got) / len(got), 3),
                    "answer": round(sum(loss for _, loss in got) / len(got), 3),
                }
    print(json.dumps({"check": given.name, "cases": given.cases, "recipes": table}))


if __name__ == "__main__":
    main()
