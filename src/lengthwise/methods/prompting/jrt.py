"""JRT: the documents are read twice, each time with the question behind them.

Arora and others, "Just read twice: closing the recall gap for recurrent language models", 2024,
arXiv:2407.05483. What a model keeps of a text hangs on what it looks for, and the question comes
last. JRT-Prompt repeats both:

    documents, question, documents, question

so that the second reading knows the question. It needs no training; the paper's layer, JRT-RNN, is
another thing. What is read is `times` as long: beyond the trained length a recipe needs a method of
positions, exactly as a long document does.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.prompts import Passage, PromptText, TextModel, whole


@dataclass(frozen=True)
class JRT(Method):
    """Reads documents and question, and then both again."""

    name: ClassVar[str] = "jrt"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "Just read twice: closing the recall gap for recurrent language models",
        "Arora and others", 2024, arxiv="2407.05483",
    )  # fmt: skip

    times: int = option(2, "how often documents and question are read", low=1, high=16)

    @classmethod
    def identity(cls, length: int) -> JRT:
        return cls(times=1)

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        once = whole(documents)
        before = (*once, Passage(question)) * (self.times - 1)
        return PromptText((*before, *once), question)


__all__ = ["JRT"]
