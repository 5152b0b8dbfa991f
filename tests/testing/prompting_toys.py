"""Prompting methods of a few lines, sound ones and those that break one law each."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, replace
from typing import ClassVar

from lengthwise.errors import LengthwiseError
from lengthwise.methods.base import Budget, Method, Question
from lengthwise.methods.prompts import LogitModel, PromptText, TextModel, cut, joined, whole
from lengthwise.methods.text_budget import text_budget, tokens_of

Write = Callable[[Seq[str], str, TextModel, int], PromptText]


def front(documents: Seq[str], question: str, model: TextModel, budget: int) -> PromptText:
    """The beginning of the first document, or all."""
    if budget >= model.count(joined(whole(documents))):
        return PromptText(whole(documents), question)
    return PromptText((cut(model, whole(documents)[0], budget),), question)


def rewording(documents: Seq[str], question: str, model: TextModel, budget: int) -> PromptText:
    return PromptText(front(documents, question, model, budget).passages, f"{question} Be brief.")


def greedy(documents: Seq[str], question: str, model: TextModel, budget: int) -> PromptText:
    return front(documents, question, model, budget + 1)


def misplaced(documents: Seq[str], question: str, model: TextModel, budget: int) -> PromptText:
    found = front(documents, question, model, budget)
    moved = (replace(each, start=each.start + 1) for each in found.passages)
    return PromptText((*moved,), question)


def surprised(documents: Seq[str], question: str, model: TextModel, budget: int) -> PromptText:
    if not isinstance(model, LogitModel):
        raise LengthwiseError("this is no model of mine")
    return front(documents, question, model, budget)


def forgetful() -> Write:
    """Reads a letter less with every prompt that it writes."""
    written: list[str] = []

    def write(documents: Seq[str], question: str, model: TextModel, budget: int) -> PromptText:
        if budget >= model.count(joined(whole(documents))):
            return PromptText(whole(documents), question)
        written.append(question)
        return front(documents, question, model, max(1, budget - len(written)))

    return write


def prompting(write: Write) -> type[Method]:
    """A method that writes its prompts so."""

    @dataclass(frozen=True)
    class Prompting(Method):
        name: ClassVar[str] = "toy"
        question: ClassVar[Question] = Question.PROMPTING
        paper: ClassVar[str] = "none"
        budget: Budget = text_budget(64)

        @classmethod
        def identity(cls, length: int) -> Method:
            return cls(budget=Budget(length))

        def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
            _, budget = tokens_of(documents, self.budget, model)
            return write(documents, question, model, budget)

    return Prompting
