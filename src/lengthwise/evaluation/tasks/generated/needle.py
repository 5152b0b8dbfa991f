"""Needle in a haystack (Kamradt 2023): sentences out of place in a long text, which are asked for.

Needles are put at ends of sentences of the user's text. With several, the first stands at the depth
that is wanted and the others behind it at even distances, and all are asked for, as in multi-needle
retrieval. Ours differs: the needle is not the published one, which models have read; each says a
number of its own, and the score is the share of the numbers that the reply names, not a judge's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.matching import contains_all
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted, largest
from lengthwise.evaluation.tasks.generated._shared.hay import Hay
from lengthwise.methods.options import option

_CITIES = (
    "Aldby", "Brenholm", "Carrow", "Dunsley", "Eskvale", "Farnley", "Garsdale", "Hollin",
    "Inverley", "Jarrow", "Kelmoor", "Larkwater", "Marsden", "Norwick", "Orrest", "Penhale",
)  # fmt: skip
# A model may write 1,604,700.
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


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
        hay = Hay.of(wanted.haystack, self.language)
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
        """The share of the numbers that stand in the reply, thousands apart or not."""
        return {"contains_all": contains_all(_THOUSANDS.sub("", said), sample.references)}


def _question(asked: Seq[str]) -> str:
    *most, last = asked
    if not most:
        return f"What is the magic number of {last}? Answer with the number alone."
    named = f"{', '.join(most)} and {last}"
    return f"What are the magic numbers of {named}? Answer with the numbers alone."


__all__ = ["Needle"]
