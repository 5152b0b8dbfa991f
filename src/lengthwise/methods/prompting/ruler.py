"""Ruler: an answer begins with a token that says how long it will be.

Li and others, "Ruler: A Model-Agnostic Method to Control Generated Length for Large Language
Models", EMNLP Findings 2024, arXiv:2409.18943. Nine meta length tokens join the vocabulary, one a
class of lengths in words. A model is trained on answers behind the token of their class, and on
that token itself (`lengthwise sequences answers --method ruler`, then `lengthwise train`):

    question --> [MLT:50] an answer of some fifty words

Asked for words, the answer begins with the token of their class. Without, the model writes the
token itself: `ruler` alone changes nothing.

Words are runs of letters, digits and underscores, as the authors count them. A band holds what is
above its lower end, up to its upper end. Ours: any number of words may be asked for, of whose class
the token is; the flexible bands of the nine classes leave out no number.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Paper, Question, option

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel

_WORD = re.compile(r"\w+")
Band = tuple[float, float]


@dataclass(frozen=True, slots=True)
class LengthClass:
    """A class of answers by their words.

    target: what is asked for, as in "30" or ">800". trained: words of the answers that it is
    learned from. precise, flexible: words of the answers that match it. Bands leave out their lower
    end and have their upper one.
    """

    target: str
    trained: Band
    precise: Band
    flexible: Band

    @property
    def token(self) -> str:
        """The meta length token."""
        return f"[MLT:{self.target}]"

    @property
    def phrase(self) -> str:
        """The length as a prompt says it."""
        words = self.target.replace(">", "more than ")
        return f"The response should have a word count of {words} words."


CLASSES = (
    LengthClass("10", (5, 15), (0, 20), (0, 20)),
    LengthClass("30", (25, 35), (20, 40), (20, 40)),
    LengthClass("50", (45, 55), (40, 60), (40, 60)),
    LengthClass("80", (75, 85), (70, 90), (60, 100)),
    LengthClass("150", (135, 155), (130, 170), (100, 200)),
    LengthClass("300", (295, 305), (280, 320), (200, 400)),
    LengthClass("500", (495, 505), (450, 550), (400, 600)),
    LengthClass("700", (695, 705), (630, 770), (600, 800)),
    LengthClass(">800", (800, math.inf), (800, math.inf), (800, math.inf)),
)


def within_band(words: int, band: Band) -> bool:
    """Whether a number of words lies in a band.

    Args:
        words: how many.
        band: its lower end, which is left out, and its upper end.
    """
    return band[0] < words <= band[1]


def ruler_words(text: str) -> int:
    """Words of a text as the authors count them, which `tokenization.words` does otherwise.

    Args:
        text: any.
    """
    return len(_WORD.findall(text))


def class_of(words: int) -> LengthClass:
    """The class in whose flexible band a number of words lies.

    Args:
        words: at least 1.
    """
    return next(each for each in CLASSES if within_band(words, each.flexible))


@dataclass(frozen=True)
class Ruler(Method):
    """Answers begin with the token of their length, on a model that was trained with it."""

    name: ClassVar[str] = "ruler"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "Ruler: A Model-Agnostic Method to Control Generated Length for Large Language Models",
        "Li and others", 2024, arxiv="2409.18943", venue="EMNLP Findings",
        code="https://github.com/Geaming2002/Ruler",
    )  # fmt: skip

    words: int | None = option(
        None, "words of an answer (none: the model says how long it will be)", low=1
    )

    @classmethod
    def identity(cls, length: int) -> Ruler:
        return cls(words=None)

    @classmethod
    def example(cls) -> Ruler:
        return cls(words=50)

    def check(self, model: AdaptedModel) -> None:
        self.first_token(model)

    def first_token(self, model: AdaptedModel) -> int | None:
        if self.words is None:
            return None
        token = class_of(self.words).token
        added = getattr(model.tokenizer, "added_tokens_decoder", {})
        found = next((n for n, each in added.items() if str(each.content) == token), None)
        if found is None:
            raise Refused(
                f"ruler(words={self.words}) begins an answer with the token {token}, which this "
                f"{model.family!r} model has not learned",
                "train it with `lengthwise sequences answers --method ruler` and `lengthwise "
                "train`, or ask for the length in words",
            )
        return int(found)


__all__ = ["CLASSES", "LengthClass", "Ruler", "class_of", "ruler_words", "within_band"]
