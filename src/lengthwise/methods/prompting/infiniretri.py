"""InfiniRetri: sentences that the question looks at are carried from chunk to chunk.

Ye and others, "Infinite Retrieval: Attention Enhanced LLMs in Long-Context Processing", 2025,
arXiv:2502.12962. The text is read once, a chunk at a time. With A(q, x) what token q of the
question gives to token x in the last layer, heads summed, and w(q) what it gives to the question:

    memory = {}
    for each chunk:
        read memory + chunk + question
        s(x)   = sum over q of w(q)^2 * sum over the `phrase` tokens y around x of A(q, y)
        memory = the sentences of memory and chunk that have one of the `top` tokens of largest s
    read memory + question, and answer

The memory is text, and no keys are kept, so what is held never grows with the document.

Defaults are those of the released code (infini-retri 0.0.3), as is w, which is measured behind the
first chunk and kept. The rows are all tokens behind the text, the template's last ones included.

Ours: the released memory has no bound. Here the sentences of largest s (that of their best token)
stay within the budget and within what the model was trained to read beside a chunk. Sentences are
cut by sentencex, not at every stop. A model without a layer that sees memory and chunk whole is
refused.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.budget import Budget
from lengthwise.methods.prompts import (
    AttentionModel,
    Passage,
    PromptText,
    TextModel,
    attention_of,
    in_order,
    joined,
    pieces,
    places,
    whole,
    within,
)
from lengthwise.methods.text_budget import text_budget, tokens_of
from lengthwise.retrieval.sentences import sentences

# What a chat template may put around text and question, tokens.
TEMPLATE = 64

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class InfiniRetri(Method):
    """Reads chunk after chunk, and carries on the sentences that the question attends to."""

    name: ClassVar[str] = "infiniretri"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "Infinite Retrieval: Attention Enhanced LLMs in Long-Context Processing", "Ye and others",
        2025, arxiv="2502.12962", code="https://github.com/CapitalCode2020/InfiniRetri2",
    )  # fmt: skip

    best_known: ClassVar[str] = "infiniretri(depth=0.75)"

    budget: Budget = text_budget()
    chunk: int = option(1024, "most tokens of new text in a forward", low=1)
    top: int = option(300, "tokens whose sentences are carried on", low=1)
    depth: float = option(
        1.0, "where the layer is whose attention is read; 1 is the last, 0.5 half way up",
        low=0.0, high=1.0,
    )  # fmt: skip
    phrase: int = option(8, "neighbouring tokens whose attention is summed", low=1)
    weigh: bool = option(True, "whether rows count by what they give to the question itself")
    language: str = option("en", "code of the language whose sentences are cut")

    @classmethod
    def identity(cls, length: int) -> InfiniRetri:
        return cls(budget=Budget(length))

    @classmethod
    def example(cls) -> InfiniRetri:
        return cls(budget=Budget(40), chunk=32, top=8, phrase=2)

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        reader = attention_of(model, self.name)
        length, budget = tokens_of(documents, self.budget, model)
        if length <= budget:
            return PromptText(whole(documents), question)
        budget = min(budget, self._room(question, model))
        split = partial(sentences, language=self.language)
        memory: list[Passage] = []
        weight: Floats | None = None
        for chunk in pieces(documents, model, self.chunk, split):
            memory += _sentences(chunk, self.language)
            score, weight = self._scores(joined(memory), question, reader, weight)
            ranked = self._marked(memory, score, model)
            # Side by side in their documents, but a sentence each: any may go at the next chunk.
            memory = list(within(model, ranked, budget, _apart))
        return PromptText(in_order(memory), question)

    def _room(self, question: str, model: TextModel) -> int:
        """Tokens that are left for the memory beside a chunk and the question."""
        room = model.trained_length - self.chunk - model.count(question) - TEMPLATE
        if room < 1:
            raise Refused(
                f"{self}: a chunk and the question leave no room for a memory in the "
                f"{model.trained_length:,} tokens that {model.name} was trained to read",
                "give a smaller chunk or a shorter question",
            )
        return room

    def _scores(
        self, text: str, question: str, model: AttentionModel, weight: Floats | None
    ) -> tuple[Floats, Floats]:
        """s of each token of a text, and w(q)^2 of each of the question."""
        found = model.regard(text, question, self.depth)
        if weight is None:
            own = found.question.double().numpy()
            weight = own**2 if self.weigh else np.ones_like(own)
        summed: Floats = weight @ found.text.double().numpy()
        return _smoothed(summed, self.phrase), weight

    def _marked(self, units: Seq[Passage], score: Floats, model: TextModel) -> list[Passage]:
        """The sentences that have one of the best tokens, the best sentence first."""
        text = joined(units)
        # A token belongs to the sentence in which the last sign of it stands that is no space.
        ends = [
            a + len(text[a:b].rstrip()) if text[a:b].strip() else b for a, b in model.spans(text)
        ]
        stops = np.array([stop for _, stop in places(units)])
        best: dict[int, None] = {}
        for token in (-score).argsort(kind="stable")[: self.top].tolist():
            best.setdefault(int(np.searchsorted(stops, ends[token])))
        return [units[n] for n in best]


def _sentences(chunk: Passage, language: str) -> list[Passage]:
    """The sentences of a chunk, each by itself. They follow one another without a gap."""
    found, at = [], chunk.start
    for text in sentences(chunk.text, language):
        found.append(Passage(text, chunk.document, at, at + len(text), ""))
        at += len(text)
    return found


def _smoothed(score: Floats, phrase: int) -> Floats:
    """The sum over `phrase` neighbours of each token, itself among them; of an even number one
    more of those before it."""
    total = np.concatenate([[0.0], score.cumsum()])
    at = np.arange(len(score))
    low, high = at - phrase // 2, at + (phrase + 1) // 2
    found: Floats = total[high.clip(max=len(score))] - total[low.clip(min=0)]
    return found


def _apart(passages: Seq[Passage]) -> tuple[Passage, ...]:
    """Passages as they stand in their documents, each by itself."""
    return tuple(sorted(passages, key=lambda each: (each.document or 0, each.start)))


__all__ = ["InfiniRetri"]
