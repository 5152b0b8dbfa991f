"""Choosing passages: documents cut at sentences, each passage scored, the best ones read.

documents --pieces--> passages --score--> ranked --within a budget--> what is read
"""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from functools import partial

import numpy as np

from lengthwise.methods.budget import Budget
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
from lengthwise.retrieval.sentences import sentences

# Of each passage how well it serves, the more the better; equal ones stay in their order.
Score = Callable[[Seq[Passage]], Seq[float]]


def choose(
    documents: Seq[str], question: str, model: TextModel, budget: Budget, size: int,
    language: str, score: Score, arrange: Arrange = in_order,
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

    Raises:
        Refused: for a budget in bytes, and as `score` does.
    """
    length, tokens = tokens_of(documents, budget, model)
    if length <= tokens:
        return PromptText(whole(documents), question)
    found = list(pieces(documents, model, size, partial(sentences, language=language)))
    order = (-np.asarray(score(found), dtype=np.float64)).argsort(kind="stable").tolist()
    read = within(model, [found[n] for n in order], tokens, arrange)
    return PromptText(read, question, tuple(found))


__all__ = ["Score", "choose"]
