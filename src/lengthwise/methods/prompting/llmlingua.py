"""LLMLingua's idea: what the model itself could have guessed is dropped.

This is Selective Context: Li and others, "Compressing Context to Enhance Inference Efficiency of
Large Language Models", 2023, arXiv:2310.06201, the common root of LLMLingua (Jiang and others,
2023, arXiv 2310.05736), whose budget controller and iterative compression are not here. Of a unit u
of the text, a token, a phrase or a sentence,

    I(u) = - mean over tokens x of u of log p(x | what stands before x)

and the units of least I are dropped. The question is not looked at: see bm25 and xl3m for that.

Ours: units are kept, the most telling first, until the budget is full, where the paper drops those
below a percentile. A phrase is a run of words that no stop word, punctuation or end of a line
interrupts, and each stop word is one; the paper takes the noun chunks of a parser. Text is scored
in segments of whole sentences, where the released code scores every sentence alone. A segment's
first token has nothing before it, and is left out of the mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence as Seq
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.budget import Budget
from lengthwise.methods.prompts import (
    LogitModel,
    Passage,
    PromptText,
    TextModel,
    logits_of,
    pieces,
    whole,
    within,
)
from lengthwise.methods.text_budget import text_budget, tokens_of
from lengthwise.retrieval.sentences import sentences
from lengthwise.retrieval.stop_words import LISTS
from lengthwise.tokenization.words import folded, word_pattern

# A word, what an apostrophe joins to it, and the space behind it; or signs and the space behind.
_PART = re.compile(word_pattern("'’") + r"\s*|[^\w\s]+\s*|\s+")


@dataclass(frozen=True)
class LLMLingua(Method):
    """Drops the phrases that the model could have guessed, whatever is asked."""

    name: ClassVar[str] = "llmlingua"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "Compressing Context to Enhance Inference Efficiency of Large Language Models",
        "Li and others", 2023, arxiv="2310.06201",
    )  # fmt: skip

    budget: Budget = text_budget()
    unit: str = option("phrase", "what is dropped", choices=("token", "phrase", "sentence"))
    segment: int = option(1024, "most tokens that are scored together", low=2)
    language: str = option("en", "code of the language whose sentences are cut")

    @classmethod
    def identity(cls, length: int) -> LLMLingua:
        return cls(budget=Budget(length))

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        model = logits_of(model, self.name)
        length, budget = tokens_of(documents, self.budget, model)
        if length <= budget:
            return PromptText(whole(documents), question)
        if self.segment > model.trained_length:
            raise Refused(
                f"{self}: a segment is more than the {model.trained_length:,} tokens that "
                f"{model.name} was trained to read",
                f"give segment={model.trained_length} or less",
            )
        split = partial(sentences, language=self.language)
        found: list[tuple[float, Passage]] = []
        for piece in pieces(documents, model, self.segment, split):
            found += self._scored(piece, model)
        order = sorted(found, key=lambda each: -each[0])
        return PromptText(within(model, [unit for _, unit in order], budget), question)

    def _scored(self, piece: Passage, model: LogitModel) -> Iterator[tuple[float, Passage]]:
        """The units of a piece, each with its information a token in nats."""
        spans, losses = model.spans(piece.text), model.losses(piece.text).tolist()
        stops = self._stops(piece.text, spans)
        start = token = 0
        average = sum(losses[1:]) / max(1, len(losses) - 1)
        for stop in stops:
            told = []
            # A token belongs to the unit in which it ends.
            while token < len(spans) and (spans[token][1] <= stop or stop == stops[-1]):
                told += losses[token : token + 1] if token else []
                token += 1
            place = piece.start + start
            unit = Passage(piece.text[start:stop], piece.document, place, piece.start + stop, "")
            yield sum(told) / len(told) if told else average, unit
            start = stop

    def _stops(self, text: str, spans: Seq[tuple[int, int]]) -> list[int]:
        """Where units end, ascending; the last one at the end of the text."""
        if self.unit == "token":
            ends = {stop for _, stop in spans if stop}
        elif self.unit == "sentence":
            ends, at = set(), 0
            for each in sentences(text, self.language):
                ends.add(at := at + len(each))
        else:
            ends = _phrases(text, LISTS.get(self.language, frozenset()))
        return sorted(ends | {len(text)})


def _phrases(text: str, stop_words: frozenset[str]) -> set[int]:
    ends: set[int] = set()
    for match in _PART.finditer(text):
        part = match[0].rstrip()
        small = folded(part) in stop_words
        if small and match.start():
            ends.add(match.start())
        if small or "\n" in match[0] or not part[:1].isalnum():
            ends.add(match.end())
    return ends


__all__ = ["LLMLingua"]
