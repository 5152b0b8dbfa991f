"""Reordering: the best passages stand at both ends of what is read, the weakest in the middle.

Jin and others, "Long-Context LLMs Meet RAG: Overcoming Challenges for Long Inputs in RAG", 2024,
arXiv:2410.05983. Models read what stands in the middle of a long context worst, and hard
negatives, passages that look right, do harm. So passages r1 .. rk, the best one first, are read as

    r1, r3, r5, ..., r6, r4, r2

with odd ranks ascending from the front and even ranks descending to the end.

This is the paper's variant without training. Ranks are those of BM25 (see bm25), or of a dense
encoder where one is given; equal ones stand in the order of the documents. Ours: passages are
as many as fit the budget, and where all of the documents fit they are read as they are. Passages
that happen to follow one another in their document are read without a gap.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.budget import Budget
from lengthwise.methods.prompting._shared.choosing import choose, split_at
from lengthwise.methods.prompts import Passage, PromptText, TextModel
from lengthwise.methods.text_budget import text_budget
from lengthwise.retrieval.dense import vector_scores
from lengthwise.retrieval.lexical import word_scores


@dataclass(frozen=True)
class Reorder(Method):
    """Reads the best passages first and last, and the weakest in the middle."""

    name: ClassVar[str] = "reorder"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "Long-Context LLMs Meet RAG: Overcoming Challenges for Long Inputs in RAG",
        "Jin and others", 2024, arxiv="2410.05983",
    )  # fmt: skip

    budget: Budget = text_budget()
    passage: int = option(128, "most tokens of a passage", low=1)
    encoder: str = option("", "folder of an encoder that ranks; none: BM25")
    language: str = option("en", "code of the language whose sentences are cut")
    split: str = split_at()

    @classmethod
    def identity(cls, length: int) -> Reorder:
        return cls(budget=Budget(length))

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        return choose(
            documents, question, model, self.budget, self.passage, self.language,
            partial(self._scores, question), at_the_ends, self.split,
        )  # fmt: skip

    def _scores(self, question: str, passages: Seq[Passage]) -> Seq[float]:
        texts = [each.text for each in passages]
        found: list[float] = (
            vector_scores(texts, question, self.encoder).tolist()
            if self.encoder
            else word_scores(texts, question).tolist()
        )
        return found


def at_the_ends(ranked: Seq[Passage]) -> tuple[Passage, ...]:
    """Odd ranks ascending, then even ones descending.

    Args:
        ranked: the best one first.
    """
    return (*ranked[::2], *ranked[1::2][::-1])


__all__ = ["Reorder", "at_the_ends"]
