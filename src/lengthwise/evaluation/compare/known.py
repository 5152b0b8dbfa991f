"""Questions whose answers and evidence are known: given by a user, or planted in the document."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass, replace
from typing import Any

from lengthwise.api.given import require_count
from lengthwise.api.model import Model
from lengthwise.api.remote_model import RemoteModel
from lengthwise.api.text_model import LocalText
from lengthwise.documents.document import Document
from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.metrics.spans import Span
from lengthwise.evaluation.tasks.planted import planted
from lengthwise.evaluation.tasks.qa import QuestionAnswer, question_answers

Asking = str | os.PathLike[str] | Seq[Mapping[str, Any] | QuestionAnswer]


@dataclass(frozen=True)
class Known:
    """A document, and what is known of it. evidence: of each question, where it stands."""

    document: Document
    items: Seq[QuestionAnswer] = ()
    evidence: Seq[Seq[Span]] = ()

    @property
    def questions(self) -> list[str]:
        """What is asked."""
        return [each.question for each in self.items]

    @property
    def answers(self) -> list[tuple[str, ...]]:
        """All right answers of each."""
        return [each.answers for each in self.items]

    @property
    def first_answers(self) -> list[str]:
        """A right answer of each."""
        return [each.answers[0] for each in self.items]

    def of(
        self, model: Model, ids: Seq[int], whole: bool
    ) -> tuple[str, list[Seq[Span]], tuple[str, ...]]:
        """The text of the document's first tokens, the evidence that stands in it, and notes.

        Args:
            model: whose tokens they are.
            ids: the tokens.
            whole: whether they are all of it.
        """
        text = self.document.text
        if not whole:
            tokenizer: Any = model._tokenizer()
            said = str(tokenizer.decode(list(ids), skip_special_tokens=True))
            text = os.path.commonprefix([said, text]) if self.items else said
        found: list[Seq[Span]] = [
            spans if all(stop <= len(text) for _, stop in spans) else () for spans in self.evidence
        ]
        lost = sum(bool(all_) and not here for all_, here in zip(self.evidence, found, strict=True))
        if not lost:
            return text, found, ()
        note = (
            f"the evidence of {lost} of {len(self.items)} questions stands behind this length, so "
            "they have no figures of it"
        )
        return text, found, (note,)


def known_questions(
    model: Model | RemoteModel,
    document: Document,
    lengths: Seq[int],
    qa: Asking | None,
    plant: int,
    beside: Seq[str] = (),
) -> Known:
    """The questions that `compare` is given, or is told to plant.

    Args:
        model: whose tokens lengths count.
        document: that is asked about.
        lengths: tokens of it to use; one at most where questions are planted.
        qa: a file of questions, or a list.
        plant: how many questions of our own.
        beside: what is asked or expected in another way, which does not go with either.

    Raises:
        DocumentError: for a wrong file, and for evidence that the document does not hold.
        LengthwiseError: for both, and for several lengths of planted questions.
    """
    if qa is None and not plant:
        return Known(document)
    if beside:
        raise LengthwiseError(
            f"{beside[0]!r} is asked beside a set of questions; give either those or this"
        )
    if qa is not None and plant:
        raise LengthwiseError("questions are given (qa) and planted (plant); choose one of them")
    if qa is not None:
        items = question_answers(qa)
        asked = [each.question for each in items]
        if twice := next((q for q in asked if asked.count(q) > 1), None):
            raise DocumentError(f"the question {twice!r} is asked twice: give all its answers once")
        return Known(document, items, [each.located(document) for each in items])
    require_count("plant", plant)
    if len(lengths) > 1:
        raise LengthwiseError(
            f"planted questions at {len(lengths)} lengths: give one --length, for what is planted "
            "stands in the text of that length"
        )
    if lengths:
        cut = first_tokens(model, document.text, lengths[0])
        document = replace(document, text=cut, parts=())
    found, items = planted(document, plant)
    return Known(found, items, [each.located(found) for each in items])


def first_tokens(model: Model | RemoteModel, text: str, length: int) -> str:
    """The text of the first tokens of a text.

    Args:
        model: whose tokens they are.
        text: of a document.
        length: how many.

    Raises:
        DocumentError: where it has not as many.
    """
    reader = model if isinstance(model, RemoteModel) else LocalText(model)
    spans = reader.spans(text)
    if length > len(spans):
        raise DocumentError(
            f"length {length:,} is more than the {len(spans):,} tokens of the document; give a "
            "smaller --length or a longer document"
        )
    return text[: spans[length - 1][1]]


__all__ = ["Asking", "Known", "first_tokens", "known_questions"]
