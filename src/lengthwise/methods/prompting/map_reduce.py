"""Map-reduce: the model takes notes of every part of the documents, and answers from the notes.

Wu and others, "Recursively Summarizing Books with Human Feedback", 2021, arXiv:2109.10862: parts of
a text are summarised, and the summaries again, until one is short enough. LangChain and LlamaIndex
know it as map-reduce (or tree summarise), the plain baseline of all that reads in parts.

    map       note_i = model(part_i, "what helps to answer the question")
    reduce    while the notes exceed the budget: notes that a part holds become one note
    answer    model(notes, question)

Ours: notes are asked for with the question in mind, as those libraries do, where the paper writes
summaries whatever is asked. A part of which the model says NONE has no note. No model was trained
for it. The instructions are English whatever the documents are. Parts end at sentences.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.budget import Budget
from lengthwise.methods.prompting._shared.choosing import passages, split_at
from lengthwise.methods.prompting._shared.notes import (
    NONE,
    Writer,
    check_fits,
    check_sizes,
    or_nothing,
)
from lengthwise.methods.prompts import PromptText, TextModel, whole
from lengthwise.methods.text_budget import text_budget, tokens_of

MAP = (
    "Above is one part of a longer text. Write down what it says that helps to answer this "
    f"question, with the names and numbers as they stand there. If it says nothing about it, write "
    f"{NONE}.\n\nQuestion: "
)
REDUCE = (
    "Above are notes on the parts of a text. Write one shorter note that keeps all of them that "
    "helps to answer this question, with names and numbers as they stand there.\n\nQuestion: "
)


@dataclass(frozen=True)
class MapReduce(Method):
    """Writes notes of each part with the question in mind, and reads the notes."""

    name: ClassVar[str] = "map_reduce"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "Recursively Summarizing Books with Human Feedback", "Wu and others", 2021,
        arxiv="2109.10862",
    )  # fmt: skip

    budget: Budget = text_budget()
    chunk: int = option(1024, "most tokens of a part, and of notes that become one", low=2)
    note: int = option(64, "most tokens of a note, at most half a chunk", low=1)
    language: str = option("en", "code of the language whose sentences are cut")
    split: str = split_at()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self.chunk, self.note)

    @classmethod
    def identity(cls, length: int) -> MapReduce:
        return cls(budget=Budget(length))

    @classmethod
    def example(cls) -> MapReduce:
        return cls(budget=Budget(16), chunk=48, note=8)

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        length, budget = tokens_of(documents, self.budget, model)
        if length <= budget:
            return PromptText(whole(documents), question)
        ask, again = MAP + question, REDUCE + question
        longest = max(ask, again, key=model.count)
        check_fits(self, model, self.chunk + self.note, longest, "a part and a note")
        found = passages(documents, model, self.chunk, self.language, self.split)
        parts = (each.text for each in found)
        writer = Writer(model, ask, again, self.chunk, self.note)
        return PromptText(or_nothing(model, writer.notes(parts, budget), budget), question)


__all__ = ["MapReduce"]
