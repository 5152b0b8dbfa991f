"""Choosing passages: documents cut up, each passage scored, the best ones read.

documents --passages--> passages --score--> ranked --within a budget--> what is read
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence as Seq
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

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
# Of a tokenizer, or of a model that has none, the documents that were cut last, how they were, and
# their passages: many questions may be asked about one text, each of a reader that is made for it.
_CUT: WeakKeyDictionary[Any, tuple[tuple[Any, ...], list[Passage]]] = WeakKeyDictionary()
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


def most_passages() -> Any:
    """The option of every method that ranks passages by what it is told of them at once."""
    return option(0, "passages that are read at most; 0: as many as fit the budget", low=0)


class Ranking(Protocol):
    """A method that ranks passages, and reads the best ones in an order of its own."""

    @property
    def budget(self) -> Budget: ...
    @property
    def passage(self) -> int: ...
    @property
    def k(self) -> int: ...
    @property
    def language(self) -> str: ...
    @property
    def split(self) -> str: ...

    def scores(self, question: str, passages: Seq[Passage]) -> Seq[float]:
        """Of each passage how well it serves, the more the better.

        Args:
            question: as it was asked.
            passages: of all documents.
        """

    def arrange(self, ranked: Seq[Passage]) -> tuple[Passage, ...]:
        """Passages in the order in which they are read.

        Args:
            ranked: the best one first.
        """


def read_best(
    method: Ranking, documents: Seq[str], question: str, model: TextModel,
    score: Score | None = None,
) -> PromptText:  # fmt: skip
    """What a method reads of documents, as `choose` has it.

    Args:
        method: that ranks.
        documents: as they were given.
        question: as it was asked.
        model: that counts tokens.
        score: of the passages; None is the method's own.

    Raises:
        Refused: as `choose` does.
        LengthwiseError: as `choose` does.
    """
    return choose(
        documents, question, model, method.budget, method.passage, method.language,
        score or partial(method.scores, question), method.arrange, method.split, method.k,
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
    language: str, score: Score, arrange: Arrange = in_order, split: str = "sentences", k: int = 0,
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
        k: most passages that are read; 0 is as many as fit.

    Raises:
        Refused: for a budget in bytes, and as `score` does.
        LengthwiseError: where what cuts at headings is not installed.
    """
    length, tokens = tokens_of(documents, budget, model)
    if length <= tokens and not k:
        return PromptText(whole(documents), question)
    found = _cut_once(documents, model, size, language, split)
    if length <= tokens and len(found) <= k:
        return PromptText(whole(documents), question)
    scores = np.asarray(score(found), dtype=np.float64)
    order = (-scores).argsort(kind="stable").tolist()
    read = within(model, [found[n] for n in order[: k or None]], tokens, arrange)
    even = len(found) > 1 and scores.min() == scores.max()
    return PromptText(read, question, tuple(found), (EVEN,) if even else ())


def _cut_once(
    documents: Seq[str], model: TextModel, size: int, language: str, split: str
) -> list[Passage]:
    """`passages` of documents, which are held for the next question to the same model."""
    tokenizer = getattr(model, "tokenizer", None)
    counter = tokenizer if hasattr(tokenizer, "__weakref__") else model
    asked = (type(model), tuple(documents), size, language, split)
    held = _CUT.get(counter)
    if held is None or held[0] != asked:
        held = _CUT[counter] = asked, list(passages(documents, model, size, language, split))
    return held[1]


__all__ = [
    "EVEN", "Ranking", "Score", "choose", "most_passages", "passages", "read_best", "split_at",
]  # fmt: skip
