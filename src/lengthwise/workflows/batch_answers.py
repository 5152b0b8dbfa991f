"""Labels read from an answer about many items: a line for each, found by its number.

A line that cannot be read, or is missing, abstains; so does a number that has two labels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq
from dataclasses import dataclass

_LINE = re.compile(
    r"[\s*#>\[(|\u2022-]*(?:(?:item|text|number|nr|no)\b[\s.:#\[(]*)?(\d{1,6})\b[\s\])*]*"
    r"[.:)|,=>\u2013\u2014\u2192-]*\s*(.*)",
    re.I,
)
_SURE = re.compile(
    r"\b(not\s+(?:very\s+|so\s+|entirely\s+|fully\s+)?|un|in)?(?:confident|sure|certain)\b", re.I
)
_AROUND = " \t*|`\"'\u201c\u201d()[]{}<>.,;:!-\u2013\u2014"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said of one item. label: None where it abstains. confident: whether the model said
    that it is."""

    label: str | None = None
    confident: bool = False


def read_answers(text: str, count: int, labels: Seq[str] | None = None) -> list[Answer]:
    """An answer for each item, in the order in which they were shown.

    Args:
        text: what a model wrote.
        count: of the items, which were numbered from 1.
        labels: those allowed; None is any short text.
    """
    found: dict[int, Answer] = {}
    torn: set[int] = set()
    lines = [line for line in text.splitlines() if line.strip(_AROUND)]
    for line in lines:
        match = _LINE.match(line)
        number = int(match[1]) if match else 0
        if match is None or not 1 <= number <= count:
            continue
        answer = _answer(match[2], labels)
        if answer.label is None:
            continue
        if number in found and found[number].label != answer.label:
            torn.add(number)
        found.setdefault(number, answer)
    numbered = any(_LINE.match(line) for line in lines)
    if not numbered and labels is not None and len(lines) == count:
        # Without numbers, as many labels as there are items: they stand in their order.
        plain = [_answer(line, labels) for line in lines]
        return plain if all(each.label is not None for each in plain) else [Answer()] * count
    return [
        found.get(n, Answer()) if n not in torn else Answer() for n in range(1, count + 1)
    ]  # fmt: skip


def _answer(said: str, labels: Seq[str] | None) -> Answer:
    sure = _SURE.search(said)
    if sure is not None and labels is not None and _label(sure[0], labels) is not None:
        # The word is a label here.
        sure = None
    if sure is not None:
        said = f"{said[: sure.start()]} {said[sure.end() :]}"
    confident = sure is not None and not sure[1]
    said = " ".join(said.split()).strip(_AROUND)
    return Answer((_label(said, labels) if labels is not None else said) or None, confident)


def _label(said: str, labels: Seq[str]) -> str | None:
    """The label that a text is, begins with, or is the only one to name."""
    plain = said.casefold().strip(_AROUND)
    ranked = sorted(labels, key=len, reverse=True)
    for label in ranked:
        if plain == label.casefold():
            return label
    for label in ranked:
        if re.match(rf"{re.escape(label.casefold())}(?!\w|\s*(?:/|or\b))", plain):
            return label
    named = []
    for label in ranked:
        pattern = rf"(?<!\w){re.escape(label.casefold())}(?!\w)"
        if re.search(pattern, plain):
            named.append(label)
            # A label within a longer one is not named by it.
            plain = re.sub(pattern, " ", plain)
    return named[0] if len(named) == 1 else None


__all__ = ["Answer", "read_answers"]
