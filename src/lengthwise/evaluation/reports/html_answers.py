"""What was answered, question by question, equal answers once, with what a reader has to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lengthwise.evaluation.metrics.row import CompareRow
from lengthwise.evaluation.reports.columns import number

_LONG = 280


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """recipes: who gave it. text: None when they were refused. start: of a long one, to show first.
    marks: what is to be known of it, in a few words each."""

    recipes: Sequence[str]
    text: str | None
    start: str | None
    marks: Sequence[str]


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """text: the question; None when none was asked. answers: different ones. notes: (who, note),
    each once. expected: (recipe, nats a token of the answer the user expects), where given."""

    text: str | None
    answers: Sequence[GivenAnswer]
    notes: Sequence[tuple[Sequence[str], str]]
    expected: Sequence[tuple[str, str]]

    @property
    def empty(self) -> bool:
        return not self.answers and not self.notes


def questions(rows: Sequence[CompareRow]) -> list[AnsweredQuestion]:
    """The questions of one length in their order."""
    by_question: dict[str | None, list[CompareRow]] = {}
    for row in rows:
        by_question.setdefault(row.question, []).append(row)
    always = _refused_always(rows)
    return [_question(text, group, always) for text, group in by_question.items()]


def _refused_always(rows: Sequence[CompareRow]) -> set[str]:
    """Recipes that answered nothing: the table has their reason already."""
    return {row.recipe for row in rows} - {row.recipe for row in rows if row.refused is None}


def _question(text: str | None, rows: Sequence[CompareRow], always: set[str]) -> AnsweredQuestion:
    groups: dict[tuple[str | None, tuple[str, ...]], list[str]] = {}
    for row in rows:
        if row.answer is not None:
            groups.setdefault((row.answer.strip(), _marks(row)), []).append(row.recipe)
        elif row.refused is not None and row.recipe not in always:
            groups.setdefault((None, (f"Refused: {row.refused}",)), []).append(row.recipe)
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            notes.setdefault(note, []).append(row.recipe)
    answers = [
        GivenAnswer(names, said, _start(said), marks) for (said, marks), names in groups.items()
    ]
    losses = [(row.recipe, number(loss)) for row in rows if (loss := row.expected_loss) is not None]
    return AnsweredQuestion(text, answers, [(names, note) for note, names in notes.items()], losses)


def _start(text: str | None) -> str | None:
    return None if text is None or len(text) <= _LONG else " ".join(text[:_LONG].split()) + "…"


def _marks(row: CompareRow) -> tuple[str, ...]:
    marks = []
    if row.same_text is False:
        marks.append("* another text than plain decoding's: a near tie fell the other way")
    found = row.expected_found
    if found is not None:
        wanted = f" “{row_expected}”" if (row_expected := row.expected) else ""
        marks.append(f"expected{wanted}: {'found' if found else 'not found'}")
    return tuple(marks)
