"""A model shortens derivations, and what no longer leads to the answer is told.

What `c3ot` is trained on: Kang and others, "C3oT: Generating Shorter Chain-of-Thought without
Compromising Effectiveness", AAAI 2025, arXiv:2412.11664, have GPT-4 rewrite each derivation to the
shortest text that has all its key steps. Any `TextModel` does that here. Their prompt was not to be
had; `ASKED` is ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence as Seq
from pathlib import Path
from typing import Any

from lengthwise._utils.appended import AppendedLines
from lengthwise._utils.outputs import Kind
from lengthwise._utils.papers import Paper
from lengthwise.methods.prompts import TextModel
from lengthwise.sequences.answers.base import Pair
from lengthwise.sequences.errors import SequenceError
from lengthwise.tokenization.words import folded, word_pattern

# What a pair has before it is shortened.
FIELDS = ("question", "long", "answer")
ASKED = (
    "Rewrite the derivation above in as few words as possible. Keep every number, formula and key "
    "step that leads to the answer, leave out all else, and add nothing. Write the short "
    "derivation only."
)
FROM_NOTES = "These are notes on the way to an answer. Give the answer they lead to, and only that."

PAPER = Paper(
    "C3oT: Generating Shorter Chain-of-Thought without Compromising Effectiveness",
    "Kang and others", 2025, arxiv="2412.11664", venue="AAAI",
)  # fmt: skip
# 3.5 and -2 are other numbers than 3, 5 and 2, and 9-2 has no -2.
_WORD = re.compile(r"(?:(?<![\w)])-)?\d+(?:[.,]\d+)*|" + word_pattern(without=r"\d"))
Entails = Callable[[str, Pair], bool]
"""Whether a short derivation still leads to the answer of its pair."""


def says(derivation: str, answer: str) -> bool:
    """Whether a derivation says an answer: its words in that order, whole and next to each other.

    Args:
        derivation: a text.
        answer: a text; one without letters or digits is said by none.
    """
    said, wanted = _words(derivation), _words(answer)
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(said)} "


def _words(text: str) -> list[str]:
    return _WORD.findall(folded(text))


def asked(model: TextModel, max_new_tokens: int = 64) -> Entails:
    """Has a model answer from a short derivation alone, which is stricter than `says`.

    Args:
        model: that is asked.
        max_new_tokens: of its answer.
    """

    def entails(derivation: str, pair: Pair) -> bool:
        question = f"{pair['question']}\n{FROM_NOTES}"
        return says(model.write(derivation, question, max_new_tokens), pair["answer"])

    return entails


def compressed(
    pairs: Iterable[Pair], model: TextModel, max_new_tokens: int = 512,
    entails: Entails = lambda derivation, pair: says(derivation, pair["answer"]),
) -> Iterator[Pair]:  # fmt: skip
    """Pairs with a short derivation; those that were not shortened, or in vain, are left out.

    Args:
        pairs: with `question`, `long` and `answer`.
        model: that shortens.
        max_new_tokens: of a short derivation.
        entails: whether one still leads to the answer; by default, whether it says it.
    """
    for pair in pairs:
        short = model.write(pair["long"], ASKED, max_new_tokens).strip()
        if short and model.count(short) < model.count(pair["long"]) and entails(short, pair):
            yield {**pair, "short": short}


class ShortenedPairs:
    """A file of pairs that are being shortened, a JSON line for each that was, as it is done.

    A line has the pair with its `short`, `pair` (its number, from 1) and the job. A job that was
    killed goes on behind the last line; pairs after it that were left out are asked again.
    """

    def __init__(
        self, path: Path, pairs: Seq[Pair], job: Mapping[str, Any], force: bool = False
    ) -> None:
        """Opens it, or begins it.

        Args:
            path: of the file.
            pairs: all of them.
            job: what decides what is written, such as the model's name, by name.
            force: begin anew, whatever lies there.

        Raises:
            SequenceError: for a file of other pairs or of another job, and a damaged line.
        """
        self.path, self._pairs, self._job = path, pairs, dict(job)
        self._lines = AppendedLines(path, "sequences shorten", SequenceError)
        # Pairs that are done with, and how many of them were shortened.
        self.done = self.kept = 0
        try:
            if force:
                self._lines.clear()
            for number, raw in self._lines.lines():
                self._take(number, raw)
        except BaseException:
            self._lines.close()
            raise

    def _take(self, number: int, raw: bytes) -> None:
        try:
            row = json.loads(raw)
            place, pair = int(row.pop("pair")), {name: row[name] for name in FIELDS}
            job = {name: row[name] for name in self._job}
            known = self._pairs[place - 1] if place > self.done else None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as bad:
            raise SequenceError(
                f"{self.path}: line {number} is damaged ({bad!r}); add --force to begin it anew"
            ) from bad
        if pair != known or job != self._job:
            other = next((name for name in job if job[name] != self._job[name]), "")
            of = f"another {other} ({job[other]!r})" if pair == known else "other pairs"
            raise SequenceError(
                f"{self.path}: line {number} is of {of}; name another file for these, or add "
                "--force to begin it anew"
            )
        self.done, self.kept = place, self.kept + 1

    def fill(
        self, shorten: Callable[[Pair], Iterable[Pair]],
        told: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:  # fmt: skip
        """Shortens what is left. A file without any pair goes.

        Args:
            shorten: gives a pair with its short derivation, or nothing.
            told: called with how many pairs are done with, of how many.
        """
        with self._lines:
            for number, pair in enumerate(self._pairs[self.done :], self.done + 1):
                for found in shorten(pair):
                    self._lines.add({"pair": number, **self._job, **found})
                    self.kept += 1
                self.done = number
                told(number, len(self._pairs))
        if not self.kept:
            self.path.unlink()


def _is_shortened(path: Path) -> bool:
    start = b'{"pair": '
    with path.open("rb") as file:
        return start.startswith(file.read(len(start)))


SHORTENED = Kind("shortened pairs", _is_shortened)

__all__ = [
    "ASKED", "FIELDS", "FROM_NOTES", "PAPER", "SHORTENED", "Entails", "ShortenedPairs", "asked",
    "compressed", "says",
]  # fmt: skip
