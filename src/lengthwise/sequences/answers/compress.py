"""A model shortens derivations, and what no longer leads to the answer is told.

What `c3ot` is trained on: Kang and others, "C3oT: Generating Shorter Chain-of-Thought without
Compromising Effectiveness", AAAI 2025, arXiv:2412.11664, have GPT-4 rewrite each derivation to the
shortest text that has all its key steps. Any `TextModel` does that here. Their prompt was not to be
had; `ASKED` is ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from lengthwise._utils.papers import Paper
from lengthwise.methods.prompts import TextModel
from lengthwise.sequences.answers.base import Pair

ASKED = (
    "Rewrite the derivation above in as few words as possible. Keep every number, formula and key "
    "step that leads to the answer, leave out all else, and add nothing. Write the short "
    "derivation only."
)
FROM_NOTES = "These are notes on the way to an answer. Give the answer they lead to, and only that."

PAPER = Paper(
    "C3oT: Generating Shorter Chain-of-Thought without Compromising Effectiveness",
    "Kang and others", 2025, arxiv="2412.11664", venue="AAAI",
)  # fmt: skip
Entails = Callable[[str, Pair], bool]
"""Whether a short derivation still leads to the answer of its pair."""


def says(derivation: str, answer: str) -> bool:
    """Whether a derivation says an answer: its words in that order, whole and next to each other.

    Args:
        derivation: a text.
        answer: a text; one without letters or digits is said by none.
    """
    said, wanted = _words(derivation), _words(answer)
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(said)} "


def _words(text: str) -> list[str]:
    # 3.5 and -2 are other numbers than 3, 5 and 2, and 9-2 has no -2.
    return re.findall(r"(?:(?<![\w)])-)?\d+(?:[.,]\d+)*|[^\W\d]+", text.casefold())


def asked(model: TextModel, max_new_tokens: int = 64) -> Entails:
    """Has a model answer from a short derivation alone, which is stricter than `says`.

    Args:
        model: that is asked.
        max_new_tokens: of its answer.
    """

    def entails(derivation: str, pair: Pair) -> bool:
        question = f"{pair['question']}\n{FROM_NOTES}"
        return says(model.write(derivation, question, max_new_tokens), pair["answer"])

    return entails


def compressed(
    pairs: Iterable[Pair], model: TextModel, max_new_tokens: int = 512,
    entails: Entails = lambda derivation, pair: says(derivation, pair["answer"]),
) -> Iterator[Pair]:  # fmt: skip
    """Pairs with a short derivation; those that were not shortened, or in vain, are left out.

    Args:
        pairs: with `question`, `long` and `answer`.
        model: that shortens.
        max_new_tokens: of a short derivation.
        entails: whether one still leads to the answer; by default, whether it says it.
    """
    for pair in pairs:
        short = model.write(pair["long"], ASKED, max_new_tokens).strip()
        if short and model.count(short) < model.count(pair["long"]) and entails(short, pair):
            yield {**pair, "short": short}


__all__ = ["ASKED", "FROM_NOTES", "PAPER", "Entails", "asked", "compressed", "says"]
