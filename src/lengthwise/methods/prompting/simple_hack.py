"""Simple Hack: words that say little are dropped, and what is left is cut at the budget.

Mutasodirin and others, "Simple Hack for Transformers against Heavy Long-Text Classification on a
Time- and Memory-Limited GPU Service", 2024, arXiv:2403.12563. Texts are cleaned, so that their
first 128 to 256 tokens carry what 512 of the raw text carried:

    text --drop stop words, punctuation, rare words, words that recur--> cleaned --first tokens-->

Of all combinations the best drops stop words and keeps punctuation and rare words: the default. The
question is not looked at.

Ours: nothing is cleaned where all fits (`clean=always` does as the paper). The end, or beginning
and end, can be kept instead. The stop words are bm25s' lists; the English one has "no" and "not",
so what hangs on a negation is lost. Rare words are counted in the documents, for there is no
training set; a word recurs where it stood before. Dropped words go with the spaces between them,
lines stay, and signs within words and numbers (3.5) are no punctuation. Of Chinese characters and
kana each is a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence as Seq
from dataclasses import dataclass, replace
from typing import ClassVar

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.budget import Budget
from lengthwise.methods.options import Needs
from lengthwise.methods.prompts import GAP, Passage, PromptText, TextModel, joined, places, whole
from lengthwise.methods.text_budget import text_budget, tokens_of
from lengthwise.retrieval.stop_words import LISTS
from lengthwise.tokenization.words import folded, word_pattern

# A word and what an apostrophe joins to it; or other signs.
_UNIT = re.compile("(" + word_pattern("'’") + r")|[^\w\s]+")
_SPACES = " \t"


@dataclass(frozen=True)
class SimpleHack(Method):
    """Drops stop words, and cuts what is left at the budget."""

    name: ClassVar[str] = "simple_hack"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "Simple Hack for Transformers against Heavy Long-Text Classification on a Time- and "
        "Memory-Limited GPU Service", "Mutasodirin and others", 2024, arxiv="2403.12563",
    )  # fmt: skip

    budget: Budget = text_budget()
    keep: str = option("head", "what is kept of the cleaned text", choices=("head", "tail", "both"))
    head: float = option(
        0.5, "share of the budget that the beginning gets", low=0.0, high=1.0,
        needs=Needs("keep=both", lambda self: self.keep == "both"),
    )  # fmt: skip
    clean: str = option(
        "needed", "when words are dropped; needed: where not all fits",
        choices=("none", "needed", "always"),
    )  # fmt: skip
    language: str = option("en", "code of the language of the stop words", choices=tuple(LISTS))
    stop_words: bool = option(False, "whether stop words are kept")
    punctuation: bool = option(True, "whether punctuation is kept")
    rare: int = option(1, "fewest times that a word stands in the documents to be kept", low=1)
    recurring: bool = option(True, "whether words are kept that stood before")

    @classmethod
    def identity(cls, length: int) -> SimpleHack:
        return cls(budget=Budget(length))

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        length, budget = tokens_of(documents, self.budget, model)
        if length <= budget and self.clean != "always":
            return PromptText(whole(documents), question)
        runs = [] if self.clean == "none" else list(self._cleaned(documents))
        # Nothing but stop words: they are read.
        if not joined(runs).strip():
            runs = [each for each in whole(documents) if each.text]
        return PromptText(self._cut(runs, budget, model), question)

    def _cleaned(self, documents: Seq[str]) -> Iterator[Passage]:
        """The runs that are left, each as it stands in its document."""
        counts = Counter(
            folded(match[0]) for text in documents for match in _UNIT.finditer(text) if match[1]
        )
        seen: set[str] = set()
        for number, text in enumerate(documents):
            units = [match.span() for match in _UNIT.finditer(text)
                     if self._drops(match, counts, seen)]  # fmt: skip
            start = 0
            for low, high in _with_spaces(text, units):
                if low > start:
                    yield Passage(text[start:low], number, start, low, "")
                start = high
            if start < len(text):
                yield Passage(text[start:], number, start, len(text), "")

    def _drops(self, match: re.Match[str], counts: Counter[str], seen: set[str]) -> bool:
        if not match[1]:
            return not self.punctuation and _is_punctuation(match)
        word = folded(match[0])
        again = word in seen
        seen.add(word)
        return (
            (not self.stop_words and word in LISTS[self.language])
            or counts[word] < self.rare
            or (again and not self.recurring)
        )

    def _cut(self, runs: list[Passage], budget: int, model: TextModel) -> tuple[Passage, ...]:
        """The beginning, the end, or both, of at most `budget` tokens."""
        text = joined(runs)
        spans = model.spans(text)
        if len(spans) <= budget:
            return tuple(runs)
        share = {"head": 1.0, "tail": 0.0, "both": self.head}[self.keep]
        found: tuple[Passage, ...] = ()
        # A cut within a word may make other tokens, and between both parts a gap is read.
        for tokens in range(budget, 0, -1):
            front = round(tokens * share)
            stop = spans[front - 1][1] if front else 0
            start = spans[front - tokens][0] if front < tokens else len(text)
            tail = list(_clipped(runs, max(start, stop), len(text)))
            if tail:
                tail[0] = replace(tail[0], gap=GAP)
            found = (*_clipped(runs, 0, stop), *tail) or found
            if model.count(joined(found)) <= budget:
                return found
        return found


def _with_spaces(text: str, units: Seq[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Units that are dropped, side by side in one, with the spaces that they leave over."""
    merged: list[tuple[int, int]] = []
    for low, high in units:
        if merged and not text[merged[-1][1] : low].strip(_SPACES):
            low = merged.pop()[0]
        merged.append((low, high))
    for low, high in merged:
        if text[high : high + 1] not in tuple(_SPACES):
            # Before a sign or the end of a line or text the spaces in front go.
            while low and text[low - 1] in _SPACES:
                low -= 1
            yield low, high
        elif _in_word(text[max(0, low - 1) : low]):
            yield low, high
        else:
            while text[high : high + 1] in tuple(_SPACES):
                high += 1
            yield low, high


def _is_punctuation(match: re.Match[str]) -> bool:
    """Whether signs are punctuation alone, and not within a word or a number."""
    text, (start, stop) = match.string, match.span()
    within = _in_word(text[start - 1 : start]) and _in_word(text[stop : stop + 1])
    return not within and all(unicodedata.category(sign).startswith("P") for sign in match[0])


def _in_word(sign: str) -> bool:
    """Whether a sign is a letter, a digit or a mark; no sign is none."""
    return sign.isalnum() or unicodedata.category(sign or " ").startswith("M")


def _clipped(runs: Seq[Passage], low: int, high: int) -> Iterator[Passage]:
    """What characters `low` to `high` of the joined runs have of each."""
    for run, (at, _) in zip(runs, places(runs), strict=True):
        first, stop = max(low - at, 0), min(high - at, len(run.text))
        if first < stop:
            yield Passage(
                run.text[first:stop], run.document, run.start + first, run.start + stop, run.gap
            )


__all__ = ["SimpleHack"]
