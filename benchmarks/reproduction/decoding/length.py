"""Lengths that are asked for in words, and lengths that are held to."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check, load

from lengthwise.recipes import parse
from lengthwise.retrieval.sentences import sentences
from lengthwise.tokenization.words import count_words


def _sentences(text: str) -> int:
    return len(sentences(text.strip()))


QUESTIONS = (
    "Why is the sky blue?", "What did the Romans eat?", "How does a bicycle stay upright?",
    "What is a computer?", "Why do leaves fall in autumn?", "What makes bread rise?",
)  # fmt: skip
# What is asked for in the prompt, the recipe that holds to it, and whether a text does.
WANTED = (
    ("at most 20 words", "length(max_words=20)", lambda text: count_words(text) <= 20),
    ("at least 80 words", "length(min_words=80)", lambda text: count_words(text) >= 80),
    ("exactly one sentence", "length(max_sentences=1)", lambda text: _sentences(text) == 1),
)


@check({"wanted": "", "recipe": "", "answers": "", "as wanted": "", "mean words": ".1f",
        "mean sentences": ".1f", "end with a sentence": ""})  # fmt: skip
def length(new: int = 160) -> Iterator[Found]:
    """Answers of the embedded model, asked in words alone, and under the constraint as well."""
    model = load()
    for wanted, recipe, fits in WANTED:
        for each in ("full", recipe):
            texts = [
                model.generate(
                    [{"role": "user", "content": f"{question} Answer in {wanted}."}],
                    parse(each), max_new_tokens=new,
                ).text
                for question in QUESTIONS
            ]  # fmt: skip
            yield {
                "wanted": wanted, "recipe": each, "answers": len(texts),
                "as wanted": sum(map(fits, texts)),
                "mean words": sum(map(count_words, texts)) / len(texts),
                "mean sentences": sum(map(_sentences, texts)) / len(texts),
                "end with a sentence": sum(text.rstrip()[-1:] in ".!?\"')" for text in texts),
            }  # fmt: skip
