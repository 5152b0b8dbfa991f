"""Needle in a haystack (Kamradt 2023): sentences out of place in a long text, which are asked for.

Needles are put at ends of sentences of the user's text. With several, the first stands at the depth
that is wanted and the others behind it at even distances, and all are asked for, as in multi-needle
retrieval. Ours differs: the needle is not the published one, which models have read; each says a
number of its own, and the score is the share of the numbers that the reply names, not a judge's.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted, largest
from lengthwise.methods.options import option
from lengthwise.retrieval.sentences import sentences

_CITIES = (
    "Aldby", "Brenholm", "Carrow", "Dunsley", "Eskvale", "Farnley", "Garsdale", "Hollin",
    "Inverley", "Jarrow", "Kelmoor", "Larkwater", "Marsden", "Norwick", "Orrest", "Penhale",
)  # fmt: skip


@dataclass(frozen=True)
class Needle:
    """One needle or several in the user's own text. Scored by the share of them that is named."""

    name: ClassVar[str] = "needle"
    paper: ClassVar[Paper] = Paper(
        "Needle in a Haystack: pressure testing LLMs", "Kamradt", 2023,
        code="https://github.com/gkamradt/LLMTest_NeedleInAHaystack",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {"needle": Difficulty("low", "low")}

    needles: int = option(1, "sentences that are hidden", low=1, high=len(_CITIES))
    language: str = option("en", "code of the language whose sentences are cut")

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """Needles of a sample, the first at the depth that is wanted or drawn."""
        hay = Hay(wanted.haystack, self.language)
        for draw in wanted.draws(task):
            cities = draw.sample(_CITIES, self.needles)
            numbers = [str(draw.randrange(10**6, 10**7)) for _ in cities]
            first = draw.random() if wanted.depth is None else wanted.depth
            depths = [first + (1 - first) * n / self.needles for n in range(self.needles)]
            texts = [
                f"The magic number of {city} is {number}."
                for city, number in zip(cities, numbers, strict=True)
            ]
            begin = hay.begin(draw)

            def build(
                units: int, begin: int = begin, texts: Seq[str] = texts,
                depths: Seq[float] = depths, cities: Seq[str] = cities,
                numbers: Seq[str] = numbers,
            ) -> Sample:  # fmt: skip
                return Sample(
                    hay.with_needles(begin, units, texts, depths), _question(cities),
                    tuple(numbers), 16 * len(cities), depth=depths[0],
                )  # fmt: skip

            yield largest(wanted, build, least=self.needles)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """The share of the numbers that stand in the reply."""
        found = sum(number in said.replace(",", "") for number in sample.references)
        return {"contains_all": found / len(sample.references)}


def _question(asked: Seq[str]) -> str:
    *most, last = asked
    if not most:
        return f"What is the magic number of {last}? Answer with the number alone."
    named = f"{', '.join(most)} and {last}"
    return f"What are the magic numbers of {named}? Answer with the numbers alone."


class Hay:
    """A text as sentences, read round and round, in which needles are put."""

    def __init__(self, text: str, language: str = "en") -> None:
        self.units = list(sentences(text, language))

    def begin(self, draw: random.Random) -> int:
        """The sentence with which a sample begins, drawn."""
        return draw.randrange(len(self.units))

    def with_needles(self, begin: int, units: int, needles: Seq[str], depths: Seq[float]) -> str:
        """So many sentences, with needles at the sentence ends that are next to depths.

        Args:
            begin: the first sentence.
            units: how many.
            needles: sentences to hide, in order.
            depths: of each, from 0 to 1 of the characters, rising.
        """
        hay = [self.units[(begin + n) % len(self.units)] for n in range(units)]
        ends = [0]
        for each in hay:
            ends.append(ends[-1] + len(each))
        found, at = [], 0
        for needle, depth in zip(needles, depths, strict=True):
            place = max(at, min(bisect_right(ends, depth * ends[-1] + 0.5) - 1, units))
            before = "".join(hay[at:place])
            found += [before, "" if not before or before[-1].isspace() else " ", needle, " "]
            at = place
        return "".join([*found, *hay[at:]]).strip()


__all__ = ["Hay", "Needle"]
