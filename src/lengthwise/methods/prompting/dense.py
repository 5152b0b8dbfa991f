"""Dense retrieval: the passages whose meaning is nearest to the question.

Karpukhin and others, "Dense Passage Retrieval for Open-Domain Question Answering", 2020,
arXiv:2004.04906. An encoder E makes one vector of a text, and passage p has the score

    cos(E(question), E(p))

The best passages that fit the budget, at most `k` where it is given, are read in the order of the
documents. Words need not be shared, which is what bm25 wants; names and numbers are met less
surely.

Ours: one encoder for both sides, as in sentence-transformers, that lies in the folder `encoder`.
All vectors are compared: the passages of a prompt are too few for an index. An encoder reads of a
passage as much as it takes (256 tokens of its own where it is MiniLM), so that passages of 128 are
read whole. None comes with the toolkit.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.budget import Budget
from lengthwise.methods.prompting._shared.choosing import most_passages, read_best, split_at
from lengthwise.methods.prompting._shared.encoders import example_encoder, require_encoder
from lengthwise.methods.prompts import Passage, PromptText, TextModel, in_order
from lengthwise.methods.text_budget import text_budget
from lengthwise.retrieval.dense import vector_scores


@dataclass(frozen=True)
class Dense(Method):
    """Reads the passages that an encoder finds nearest to the question."""

    name: ClassVar[str] = "dense"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "Dense Passage Retrieval for Open-Domain Question Answering", "Karpukhin and others", 2020,
        arxiv="2004.04906",
    )  # fmt: skip

    budget: Budget = text_budget()
    encoder: str = option("", "folder of an encoder that compares; it must be given")
    passage: int = option(128, "most tokens of a passage", low=1)
    language: str = option("en", "code of the language whose sentences are cut")
    split: str = split_at()
    k: int = most_passages()

    @classmethod
    def identity(cls, length: int) -> Dense:
        return cls(budget=Budget(length))

    @classmethod
    def example(cls) -> Dense:
        return cls(budget=Budget(16), passage=8, encoder=example_encoder())

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        return read_best(self, documents, question, model)

    def scores(self, question: str, passages: Seq[Passage]) -> Seq[float]:
        """Cosines of passages and a question."""
        folder = require_encoder(self.name, self.encoder)
        texts = [each.text for each in passages]
        found: list[float] = vector_scores(texts, question, folder).tolist()
        return found

    def arrange(self, ranked: Seq[Passage]) -> tuple[Passage, ...]:
        """In the order of the documents."""
        return in_order(ranked)


__all__ = ["Dense"]
