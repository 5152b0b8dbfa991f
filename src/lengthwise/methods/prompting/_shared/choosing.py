"""Choosing passages: documents cut up, each passage scored, the best ones read.

documents --passages--> passages --score--> ranked --within a budget--> what is read
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence as Seq
from functools import partial
from typing import Any

import numpy as np

from lengthwise.methods.budget import Budget
from lengthwise.methods.options import option
from lengthwise.methods.prompts import (
    Arrange,
    Passage,
    PromptText,
    TextModel,
    in_order,
    pieces,
    whole,
    within,
)
from lengthwise.methods.text_budget import tokens_of
from lengthwise.retrieval.headings import sections
from lengthwise.retrieval.sentences import sentences

# Of each passage how well it serves, the more the better; equal ones stay in their order.
Score = Callable[[Seq[Passage]], Seq[float]]
EVEN = (
    "no passage serves the question better than another, so the first ones are read; a method that "
    "compares words finds none of the question's in the documents"
)


def split_at() -> Any:
    """The option of every method that cuts documents in passages."""
    return option(
        "sentences", "where documents are cut; headings: of Markdown, needs lengthwise[prompting]",
        choices=("sentences", "headings"),
    )  # fmt: skip


def passages(
    documents: Seq[str], model: TextModel, size: int, language: str, split: str
) -> Iterator[Passage]:
    """Documents in passages of at most `size` tokens, which joined are the documents.

    Args:
        documents: as they were given.
        model: that counts tokens.
        size: at least 1.
        language: code of the one whose sentences are cut.
        split: "sentences", as many as fit; or "headings", sections as far as they fit.

    Raises:
        LengthwiseError: where what cuts at headings is not installed.
    """
    if split == "sentences":
        yield from pieces(documents, model, size, partial(sentences, language=language))
        return
    for number, document in enumerate(documents):
        start = 0
        for each in sections(document, model.count, size):
            yield Passage(each, number, start, start + len(each))
            start += len(each)


def choose(
    documents: Seq[str], question: str, model: TextModel, budget: Budget, size: int,
    language: str, score: Score, arrange: Arrange = in_order, split: str = "sentences",
) -> PromptText:  # fmt: skip
    """The passages that serve best, within a budget; all of the documents where they fit it.

    Args:
        documents: as they were given.
        question: as it was asked.
        model: that counts tokens.
        budget: of what is read of the documents.
        size: most tokens of a passage.
        language: code of the one whose sentences are cut.
        score: of the passages; asked only where something has to be left out.
        arrange: the order in which they are read.
        split: where documents are cut, as `passages` has it.

    Raises:
        Refused: for a budget in bytes, and as `score` does.
        LengthwiseError: where what cuts at headings is not installed.
    """
    length, tokens = tokens_of(documents, budget, model)
    if length <= tokens:
        return PromptText(whole(documents), question)
    found = list(passages(documents, model, size, language, split))
    scores = np.asarray(score(found), dtype=np.float64)
    order = (-scores).argsort(kind="stable").tolist()
    read = within(model, [found[n] for n in order], tokens, arrange)
    even = len(found) > 1 and scores.min() == scores.max()
    return PromptText(read, question, tuple(found), (EVEN,) if even else ())


__all__ = ["EVEN", "Score", "choose", "passages", "split_at"]
