"""Refine: notes are carried from part to part of the documents, and the last ones are read.

Chang and others, "BooookScore: A systematic exploration of book-length summarization in the era of
LLMs", ICLR 2024, arXiv:2310.00785, who call it incremental updating: one running summary is brought
up to date with each part. LangChain and LlamaIndex know it as refine, the plain baseline beside
map-reduce.

    notes_i = model(notes_(i-1), part_i, "bring the notes up to date for the question")
    answer  = model(notes_n, question)

A later part is read with what was noted before it, which map_reduce cannot do; what is dropped once
is gone. Where the model says NONE of a part the notes stay as they are.

Ours: the question is in mind, as in those libraries, and notes stand in for the answer so far, so
that a recipe reads them as it reads any context. The paper compresses notes that have grown too
long; here no more than `note` tokens of them are written. The instructions are English.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.budget import Budget
from lengthwise.methods.prompting._shared.choosing import passages, split_at
from lengthwise.methods.prompting._shared.notes import NONE, check_fits, note_of, or_nothing
from lengthwise.methods.prompts import Passage, PromptText, TextModel, whole
from lengthwise.methods.text_budget import text_budget, tokens_of

NOTES, PART = "Notes so far:", "The next part of the text:"
FIRST = (
    "Above is the first part of a longer text. Write down what it says that helps to answer this "
    f"question, with the names and numbers as they stand there. If it says nothing about it, write "
    f"{NONE}.\n\nQuestion: "
)
NEXT = (
    "Above are notes on a text and its next part. Write the notes anew, with what the part says "
    "that helps to answer this question, and keep names and numbers as they stand there. If the "
    f"part says nothing about it, write {NONE}.\n\nQuestion: "
)


@dataclass(frozen=True)
class Refine(Method):
    """Brings notes up to date with each part in turn, and reads the last ones."""

    name: ClassVar[str] = "refine"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "BooookScore: A systematic exploration of book-length summarization in the era of LLMs",
        "Chang and others", 2024, arxiv="2310.00785", venue="ICLR",
    )  # fmt: skip

    budget: Budget = text_budget()
    chunk: int = option(1024, "most tokens of a part", low=1)
    note: int = option(256, "most tokens of the notes", low=1)
    language: str = option("en", "code of the language whose sentences are cut")
    split: str = split_at()

    @classmethod
    def identity(cls, length: int) -> Refine:
        return cls(budget=Budget(length))

    @classmethod
    def example(cls) -> Refine:
        return cls(budget=Budget(16), chunk=48, note=12)

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        length, budget = tokens_of(documents, self.budget, model)
        if length <= budget:
            return PromptText(whole(documents), question)
        size = min(self.note, budget)
        told = max(FIRST, f"{NOTES} {PART} {NEXT}", key=model.count) + question
        check_fits(self, model, self.chunk + 2 * size, told, "a part, its notes and those before")
        notes: list[Passage] = []
        for part in passages(documents, model, self.chunk, self.language, self.split):
            text, ask = part.text, FIRST
            if notes:
                text, ask = f"{NOTES}\n{notes[0].text}\n\n{PART}\n{text}", NEXT
            found = note_of(model, text, ask + question, size) if part.text.strip() else None
            notes = [found] if found else notes
        return PromptText(or_nothing(model, notes, budget), question)


__all__ = ["Refine"]
