"""Answers side by side: those that are alike once, of the others what is different, in full."""

from __future__ import annotations

import os.path
from collections.abc import Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from lengthwise.evaluation.metrics.row import CompareRow

# A beginning that two answers share is left out of the second where it is longer than this, but for
# so many of its words.
_SHARED, _WORDS = 60, 4


def answers(rows: Sequence[CompareRow], whole: bool) -> list[RenderableType]:
    """The answers to one question: the first (full's) whole, then every other one from where it
    leaves that one; recipes that say the same are named together.

    whole: print also what an answer has in common with the first.
    """
    said: dict[str, list[str]] = {}
    for row in rows:
        if row.answer is not None:
            said.setdefault(row.answer.strip(), []).append(row.recipe)
    parts: list[RenderableType] = []
    first = next(iter(said), "")
    for answer, recipes in said.items():
        parts.append(Text(", ".join(recipes), style="cyan", overflow="fold"))
        text = answer if whole or answer == first else from_difference(answer, first)
        shown = Text(text or "(an empty answer)", style="" if text else "dim", overflow="fold")
        parts.append(Padding(shown, (0, 0, 0, 2)))
    return [*parts, Text()] if parts else []


def from_difference(answer: str, first: str) -> str:
    """An answer from a few words before the place where it leaves the first one, to its end."""
    same = len(os.path.commonprefix([answer, first]))
    words = answer[:same].split(" ")
    kept = " ".join(words[-_WORDS - 1 :])
    if same - len(kept) < _SHARED:
        return answer
    return f"(as above) … {kept}{answer[same:]}"
