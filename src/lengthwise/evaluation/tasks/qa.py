"""Questions about a document with their answers, and where in it those stand: a file, or a list.

One JSON object a line, or one list of them:

    {"question": "Who signed it?", "answer": "Ada Hart", "evidence": "It was signed by Ada Hart."}

"answer" may be a list of texts that are all right. "evidence" may be left out, and may be a list. A
piece of it is a text as the document has it, or a place: {"document": "report.pdf", "start": 120,
"stop": 146} in characters of that file; one without "document" is a place in the whole text.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lengthwise._utils.suggestions import did_you_mean
from lengthwise.documents.document import Document
from lengthwise.documents.json_lines import json_lines
from lengthwise.errors import DocumentError

FIELDS = ("question", "answer", "evidence", "id", "kind")
PLACE = ("document", "start", "stop")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A piece of a document that answers: its text, or its place; `document` None is the whole."""

    text: str | None = None
    document: str | None = None
    start: int = 0
    stop: int = 0


@dataclass(frozen=True, slots=True)
class QuestionAnswer:
    """A question, its right answers, and what of the document says so.

    where: how an error names it. kind: of question, "" where nothing is said.
    """

    question: str
    answers: tuple[str, ...]
    evidence: tuple[Evidence, ...] = ()
    kind: str = ""
    where: str = "a question"

    def located(self, document: Document) -> tuple[tuple[int, int], ...]:
        """Where its evidence stands in a document, half-open runs of characters.

        Args:
            document: that is asked about.

        Raises:
            DocumentError: for evidence that is not there, or is there more than once.
        """
        return tuple(self._place(each, document) for each in self.evidence)

    def _place(self, each: Evidence, document: Document) -> tuple[int, int]:
        if each.text is None:
            if each.document is None:
                found = (each.start, each.stop) if each.stop <= len(document.text) else None
            else:
                found = document.place(each.document, each.start, each.stop)
            if found is None:
                names = ", ".join(part.name for part in document.parts[:8]) or document.name
                raise DocumentError(
                    f"{self.where}: the document has no characters {each.start:,} to "
                    f"{each.stop:,} of {each.document or 'the whole text'}; its files: {names}"
                )
            return found
        count = document.text.count(each.text)
        if count != 1:
            there = f"stands {count} times in" if count else "does not stand in"
            raise DocumentError(
                f"{self.where}: the evidence {_short(each.text)} {there} {document.name}; give it "
                "as the document has it, or its place as document, start and stop"
            )
        start = document.text.index(each.text)
        return start, start + len(each.text)


def question_answers(
    given: str | os.PathLike[str] | Seq[Mapping[str, Any] | QuestionAnswer],
) -> list[QuestionAnswer]:
    """The questions of a file, or of a list.

    Args:
        given: a path, or what stands in such a file, as objects.

    Raises:
        DocumentError: for a file that cannot be read or holds none, and for wrong fields, with the
            line.
    """
    if isinstance(given, (str, os.PathLike)):
        path = Path(os.path.expanduser(given))
        found = [_read(f"{path.name}, line {n}", each) for n, each in json_lines(path)]
        if not found:
            raise DocumentError(f"{path.name} holds no question; write one JSON object a line")
        return found
    return [
        each if isinstance(each, QuestionAnswer) else _read(f"question {n}", each)
        for n, each in enumerate(given, 1)
    ]


def _read(where: str, record: Any) -> QuestionAnswer:
    if not isinstance(record, Mapping):
        raise DocumentError(f"{where} is a {type(record).__name__}: give an object with {_FORM}")
    for name in record:
        if name not in FIELDS:
            hint = did_you_mean(str(name), FIELDS, ".")
            raise DocumentError(f"{where}: there is no field {name!r}{hint} Fields: {_FORM}")
    question, answer = record.get("question"), record.get("answer")
    if not _is_text(question):
        raise DocumentError(f'{where}: "question" must be a text that is not empty')
    answers: list[Any] = answer if isinstance(answer, list) else [answer]
    if not answers or not all(map(_is_text, answers)):
        raise DocumentError(f'{where}: "answer" must be a text, or a list of texts, none empty')
    given = record.get("evidence", [])
    pieces = given if isinstance(given, list) else [given]
    return QuestionAnswer(
        str(question), tuple(answers), tuple(_evidence(where, each) for each in pieces),
        str(record.get("kind", "")), where,
    )  # fmt: skip


_FORM = '"question", "answer", and if known "evidence", "kind" and "id"'


def _evidence(where: str, given: Any) -> Evidence:
    if _is_text(given):
        return Evidence(given)
    if isinstance(given, Mapping) and set(given) <= set(PLACE):
        start, stop, name = (given.get(key) for key in ("start", "stop", "document"))
        numbers = all(isinstance(n, int) and not isinstance(n, bool) for n in (start, stop))
        if numbers and 0 <= start < stop and (name is None or _is_text(name)):  # type: ignore[operator]
            return Evidence(None, name, start, stop)  # type: ignore[arg-type]
    raise DocumentError(
        f'{where}: a piece of "evidence" is a text, or {{"document": "name", "start": n, "stop": '
        f"m}} with 0 <= n < m; this is {_short(given)}"
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


__all__ = ["Evidence", "QuestionAnswer", "question_answers"]
