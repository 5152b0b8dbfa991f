"""BM25: the passages whose words the question has, the plain baseline of all choosing.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009. In Lucene's
form, by bm25s:

    score(p) = sum over words w of the question of
               log(1 + (N - n_w + .5) / (n_w + .5)) * f / (f + k1 (1 - b + b |p| / mean |p|))

with f occurrences of w in passage p, and n_w of N passages that have it. Documents are cut in
passages at sentences. The best ones that fit the budget, at most `k` where it is given, are read in
the order of the documents. Where no word is shared all scores are equal, and the documents'
beginning is read.

Defaults are those of bm25s (k1 1.5, b 0.75). Passages of 128 tokens and the budget are ours.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.budget import Budget
from lengthwise.methods.prompting._shared.choosing import most_passages, read_best, split_at
from lengthwise.methods.prompts import Passage, PromptText, TextModel, in_order
from lengthwise.methods.text_budget import text_budget
from lengthwise.retrieval.lexical import K1, B, word_scores


@dataclass(frozen=True)
class BM25(Method):
    """Reads the passages that share words with the question, and leaves the rest out."""

    name: ClassVar[str] = "bm25"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "The Probabilistic Relevance Framework: BM25 and Beyond", "Robertson and Zaragoza", 2009,
        url="https://doi.org/10.1561/1500000019",
    )  # fmt: skip

    budget: Budget = text_budget()
    passage: int = option(128, "most tokens of a passage", low=1)
    language: str = option("en", "code of the language whose sentences are cut")
    split: str = split_at()
    k1: float = option(K1, "how soon more of the same word counts no more", low=0.0)
    b: float = option(B, "how much a passage's length counts against it", low=0.0, high=1.0)
    k: int = most_passages()

    @classmethod
    def identity(cls, length: int) -> BM25:
        return cls(budget=Budget(length))

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        return read_best(self, documents, question, model)

    def scores(self, question: str, passages: Seq[Passage]) -> Seq[float]:
        """Of each passage, for a question."""
        found: list[float] = word_scores(
            [each.text for each in passages], question, self.k1, self.b
        ).tolist()
        return found

    def arrange(self, ranked: Seq[Passage]) -> tuple[Passage, ...]:
        """In the order of the documents."""
        return in_order(ranked)


__all__ = ["BM25"]
