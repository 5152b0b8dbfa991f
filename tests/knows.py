"""A drafter that knows what will be said, and guesses on beyond the end of it."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise.plugin import AdaptedModel, Drafter, Method, Question, Sampling, option
from lengthwise.recipes import Recipe, parse


@dataclass(frozen=True)
class Knows(Method):
    """Guesses a given text, whatever was written of it."""

    name: ClassVar[str] = "knows"
    question: ClassVar[Question] = Question.DRAFTING
    paper = None
    lossless: ClassVar[bool] = True
    text: str = option("", "its ids, spaces between them")

    def start_drafter(self, model: AdaptedModel) -> Drafter:
        return _Knowing([int(token) for token in self.text.split()])


class _Knowing(Drafter):
    name = "knows"

    def __init__(self, text: list[int]) -> None:
        self.text, self.prompt = text, 0

    def begin(self, sequence, sampling: Sampling) -> None:
        self.prompt = len(sequence)

    def propose(self, tokens: Seq[int], tree, limit: int) -> None:
        tree.add_chain(self.text[len(tokens) - self.prompt :][:limit], source=self.name)


def knowing(text: Seq[int], *methods: Method, beside: str = "fixed(nodes=16)") -> Recipe:
    """A recipe under which all of a text is guessed and verified.

    Args:
        text: ids behind the prompt.
        *methods: that stand in the recipe as well.
        beside: the rest of it, with a policy that verifies every guess.
    """
    knows = Knows(" ".join(map(str, text)))
    return Recipe((*parse(beside).methods, knows, *methods))
