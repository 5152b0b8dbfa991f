"""Ruler's training set: answers behind the meta length token of their class.

Li and others, "Ruler: A Model-Agnostic Method to Control Generated Length for Large Language
Models", EMNLP Findings 2024, arXiv:2409.18943. A pair belongs to the class in whose narrow band the
words of its answer lie (`methods.prompting.ruler`), and to none outside of all bands: it is left
out. Up to 20,000 pairs of a class are taken, by lot. Loss is taken from the token on, so that the
model also learns to choose it:

    question            --> [MLT:50] answer
    question + phrase   --> [MLT:50] answer

The phrase says the length in words. A share of pairs has it. Ours: the share is half; the authors'
released code trains on questions without it (`phrased=0`), and asks with it or without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.methods.options import option
from lengthwise.methods.prompting.ruler import (
    CLASSES,
    LengthClass,
    Ruler,
    ruler_words,
    within_band,
)
from lengthwise.sequences.answers.base import Example, Pair
from lengthwise.sequences.builders.plain import LONGEST

OUTSIDE = "words of the answer outside of all bands"
ENOUGH = "enough pairs of its class"


@dataclass(frozen=True)
class RulerAnswers:
    """A pair whose answer has the words of a class is an example."""

    name: ClassVar[str] = "ruler"
    paper: ClassVar[Paper] = Ruler.paper
    fields: ClassVar[tuple[str, ...]] = ("question", "answer")
    optional: ClassVar[tuple[str, ...]] = ()
    document_mask: ClassVar[bool] = True
    target_token: ClassVar[bool] = False

    max_length: int = option(2048, "tokens of a row at most", low=8, high=LONGEST)
    phrased: float = option(0.5, "share of prompts that say the length", low=0.0, high=1.0)
    most: int = option(20_000, "pairs of a class at most", low=1)

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(each.token for each in CLASSES)

    def examples(self, pairs: Seq[Pair], seed: int) -> list[list[Example] | str]:
        chance, taken = Random(seed), Counter[str]()
        order = list(range(len(pairs)))
        chance.shuffle(order)
        found: list[list[Example] | str] = [OUTSIDE] * len(pairs)
        for number in order:
            kind = trained_class(pairs[number]["answer"])
            if kind is None:
                continue
            if taken[kind.target] == self.most:
                found[number] = ENOUGH
                continue
            taken[kind.target] += 1
            question = pairs[number]["question"]
            if chance.random() < self.phrased:
                question = f"{question}\n{kind.phrase}"
            found[number] = [Example(question, pairs[number]["answer"], kind.token)]
        return found


def trained_class(answer: str) -> LengthClass | None:
    """The class that an answer is trained as; None where its words lie in no band.

    Args:
        answer: as it is in the data.
    """
    words = ruler_words(answer)
    return next((each for each in CLASSES if within_band(words, each.trained)), None)


__all__ = ["ENOUGH", "OUTSIDE", "RulerAnswers", "trained_class"]
