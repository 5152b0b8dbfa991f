"""Reordering: the best passages stand at both ends of what is read, the weakest in the middle.

Jin and others, "Long-Context LLMs Meet RAG: Overcoming Challenges for Long Inputs in RAG", 2024,
arXiv:2410.05983. Models read what stands in the middle of a long context worst, and hard
negatives, passages that look right, do harm. So passages r1 .. rk, the best one first, are read as

    r1, r3, r5, ..., r6, r4, r2

with odd ranks ascending from the front and even ranks descending to the end.

Ranks are those of BM25 (see bm25), or of a dense encoder where one is given; equal ones stand in
the order of the documents. `k` is the paper's number of passages. `order=rank` reads r1 .. rk,
which the paper holds it against. Its tuned variants learn from prompts that this method, or another
one, writes: `sequences.answers.retrieved`.

Ours: without `k` passages are as many as fit the budget. Where all of the documents fit, and are no
more than `k`, they are read as they are. Passages that happen to follow one another in their
document are read without a gap.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.budget import Budget
from lengthwise.methods.prompting._shared.choosing import most_passages, read_best, split_at
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
    k: int = most_passages()
    order: str = option("ends", "where the best ones stand", choices=("ends", "rank"))

    @classmethod
    def identity(cls, length: int) -> Reorder:
        return cls(budget=Budget(length))

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        return read_best(self, documents, question, model)

    def scores(self, question: str, passages: Seq[Passage]) -> Seq[float]:
        """Of each passage, for a question."""
        texts = [each.text for each in passages]
        found: list[float] = (
            vector_scores(texts, question, self.encoder).tolist()
            if self.encoder
            else word_scores(texts, question).tolist()
        )
        return found

    def arrange(self, ranked: Seq[Passage]) -> tuple[Passage, ...]:
        """At the ends, or as they are ranked."""
        return at_the_ends(ranked) if self.order == "ends" else tuple(ranked)


def at_the_ends(ranked: Seq[Passage]) -> tuple[Passage, ...]:
    """Odd ranks ascending, then even ones descending.

    Args:
        ranked: the best one first.
    """
    return (*ranked[::2], *ranked[1::2][::-1])


__all__ = ["Reorder", "at_the_ends"]
