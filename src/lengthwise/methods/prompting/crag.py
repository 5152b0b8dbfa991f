"""CRAG: the documents are clustered by what they say, and a summary of each cluster is read.

Akesson and Santos, "Clustered Retrieved Augmented Generation (CRAG)", 2024, arXiv:2406.00029. For
questions over many reviews of one thing:

    texts --encoder--> vectors --k-means--> clusters --summarised one by one--> summaries, joined

What is read hardly grows with the number of reviews. What few of them say is lost in a large
cluster, and the question has no say in what is kept: where one passage answers it, see bm25.

The paper embeds by paraphrase-multilingual-mpnet-base-v2; the encoder's folder is named by you.
Ours: each document is a text of its own, cut where it is longer than `passage`. Where
k is not given it is the one of the best silhouette, 2 to 10. `summary=nearest` reads the sentences
nearest each centroid in place of what the model writes: first one of every cluster, the largest
first, then the second of each, until the budget is full. A cluster longer than `chunk` is
summarised in parts, and summaries that exceed its share of the budget are summarised again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence as Seq
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import ClassVar

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.budget import Budget
from lengthwise.methods.options import Needs
from lengthwise.methods.prompting._shared.choosing import passages, split_at
from lengthwise.methods.prompting._shared.encoders import example_encoder, require_encoder
from lengthwise.methods.prompting._shared.notes import (
    Writer,
    check_fits,
    check_sizes,
    or_nothing,
    together,
)
from lengthwise.methods.prompts import (
    GAP,
    Passage,
    PromptText,
    TextModel,
    joined,
    whole,
    within,
)
from lengthwise.methods.text_budget import text_budget, tokens_of
from lengthwise.retrieval.clusters import Clusters, clusters
from lengthwise.retrieval.dense import held_vectors, vectors_of
from lengthwise.retrieval.sentences import sentences

ASK = (
    "Above are texts of one topic. Summarise in few words what they say, both what most of them "
    "say and what only some do, with names and numbers as they stand there."
)
AGAIN = "Above are summaries of texts of one topic. Write one shorter summary of all of them."
_WRITES = Needs("summary=model", lambda self: self.summary == "model")


@dataclass(frozen=True)
class CRAG(Method):
    """Clusters the documents by their vectors, and reads a summary of each cluster."""

    name: ClassVar[str] = "crag"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "Clustered Retrieved Augmented Generation (CRAG)", "Akesson and Santos", 2024,
        arxiv="2406.00029",
    )  # fmt: skip

    budget: Budget = text_budget()
    encoder: str = option("", "folder of an encoder that compares; it must be given")
    k: int = option(0, "clusters; 0: 2 to 10 of them, by the silhouette", low=0)
    summary: str = option(
        "model", "what is read of a cluster: a summary of the model's, or the nearest sentences",
        choices=("model", "nearest"),
    )  # fmt: skip
    passage: int = option(128, "most tokens of a text that is clustered", low=1)
    chunk: int = option(1024, "most tokens that are summarised together", low=2, needs=_WRITES)
    note: int = option(128, "most tokens of a summary, at most half a chunk", low=1, needs=_WRITES)
    language: str = option("en", "code of the language whose sentences are cut")
    split: str = split_at()
    seed: int = option(0, "of k-means", low=0, high=(1 << 32) - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self.chunk, self.note)

    @classmethod
    def identity(cls, length: int) -> CRAG:
        return cls(budget=Budget(length))

    @classmethod
    def example(cls) -> CRAG:
        return cls(budget=Budget(16), encoder=example_encoder(), passage=16, chunk=48, note=8)

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        length, budget = tokens_of(documents, self.budget, model)
        if length <= budget:
            return PromptText(whole(documents), question)
        folder = require_encoder(self.name, self.encoder)
        if self.summary == "model":
            check_fits(self, model, self.chunk + self.note, max(ASK, AGAIN, key=model.count),
                       "texts and a summary")  # fmt: skip
        texts = list(passages(documents, model, self.passage, self.language, self.split))
        texts = [each for each in texts if each.text.strip()] or texts
        vectors = held_vectors(tuple(each.text for each in texts), folder)
        found = clusters(vectors, self.k, self.seed)
        groups = [
            [text for text, label in zip(texts, found.labels.tolist(), strict=True) if label == n]
            for n in found.by_size()
        ]
        if self.summary == "nearest":
            ranked = self._nearest(groups, found, folder)
            return PromptText(within(model, ranked, budget), question)
        notes = self._written(groups, model, budget)
        return PromptText(or_nothing(model, within(model, notes, budget, tuple), budget), question)

    def _nearest(self, groups: Seq[Seq[Passage]], found: Clusters, folder: str) -> list[Passage]:
        """Sentences: of each cluster the one nearest its centroid, then the second of each."""
        ranked = []
        for number, group in zip(found.by_size(), groups, strict=True):
            own = [each for text in group for each in self._sentences(text)]
            near = vectors_of([each.text for each in own], folder) @ found.centres[number]
            ranked.append([own[n] for n in (-near).argsort(kind="stable").tolist()])
        rounds = chain.from_iterable(zip_longest(*ranked))
        return [each for each in rounds if each is not None]

    def _sentences(self, text: Passage) -> Iterator[Passage]:
        start = text.start
        for each in sentences(text.text, self.language):
            yield Passage(each, text.document, start, start + len(each))
            start += len(each)

    def _written(self, groups: Seq[Seq[Passage]], model: TextModel, budget: int) -> list[Passage]:
        """A summary of each cluster, in an equal share of the budget."""
        share = max(1, budget // len(groups) - model.count(GAP))
        writer = Writer(model, ASK, AGAIN, self.chunk, self.note)
        return [
            Passage(joined(notes))
            for group in groups
            if (notes := writer.notes(together(group, model, self.chunk), share))
        ]


__all__ = ["CRAG"]
