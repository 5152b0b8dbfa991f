"""Copying: a passage of the text, given its beginning. After Jelassi et al., "Repeat After Me:
Transformers are Better than State Space Models at Copying", ICML 2024, arXiv:2402.01032.

A few words of the user's text are given, and the words that follow them are to be written. They
stand in the text once, or are followed by the same words wherever they stand. It is the paper's
lookup of an n-gram, with more than one answer token. A text that a model has read in training is
partly known by heart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers.orders import matched_prefix
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted, largest
from lengthwise.evaluation.tasks.generated._shared.hay import Hay
from lengthwise.methods.options import option

_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Copy:
    """A passage by its first words. Scored by the share of words right from the first on."""

    name: ClassVar[str] = "copy"
    paper: ClassVar[Paper] = Paper(
        "Repeat After Me: Transformers are Better than State Space Models at Copying",
        "Jelassi et al.", 2024, arxiv="2402.01032", venue="ICML",
        code="https://github.com/sjelassi/transformers_ssm_copy",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {"copy": Difficulty("low", "low")}

    words: int = option(24, "words to write", low=1, high=1000)
    given: int = option(8, "words that are given", low=1, high=100)
    language: str = option("en", "code of the language whose sentences are cut")

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """A passage a sample, at the depth that is wanted or drawn."""
        hay = Hay.of(wanted.haystack, self.language)
        for draw in wanted.draws("copy"):
            depth = draw.random() if wanted.depth is None else wanted.depth
            begin = hay.begin(draw)

            def build(units: int, begin: int = begin, depth: float = depth) -> Sample:
                return self._sample("".join(hay.plain(begin, units)).strip(), depth, wanted)

            least = 1
            while len("".join(hay.plain(begin, least)).split()) < self.given + self.words:
                least += 1
            found = largest(wanted, build, least)
            if found.depth is None:
                raise LengthwiseError(
                    f"wherever {self.given} words of the text stand again, others follow; give "
                    "another text, or more words: copy(given=...)"
                )
            yield found

    def _sample(self, text: str, depth: float, wanted: Wanted) -> Sample:
        """A passage next to a depth, told by its beginning; depth None where there is none."""
        words = list(_WORD.finditer(text))
        last = len(words) - self.given - self.words
        at = round(depth * last)
        place = next((each for each in _near(at, last) if self._told(text, words, each)), None)
        first = at if place is None else place
        cue, right = (" ".join(each.group() for each in words[a:b]) for a, b in self._cut(first))
        asked = f"Copy the words that follow these in the text above, exactly:\n{cue}"
        where = None if place is None else place / max(1, last)
        most = wanted.tokens(right) * 11 // 10 + 8
        return Sample(text, asked, (right,), most, cue, where)

    def _cut(self, place: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """From and to which word the beginning goes, and what follows."""
        middle = place + self.given
        return (place, middle), (middle, middle + self.words)

    def _told(self, text: str, words: Seq[re.Match[str]], place: int) -> bool:
        """Whether a beginning is followed by the same words wherever it stands."""
        (_, middle), (_, end) = self._cut(place)
        begin = words[place].start()
        cue, whole = text[begin : words[middle - 1].end()], text[begin : words[end - 1].end()]
        return text.count(cue) == text.count(whole)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """The share of words before the first that is wrong, and of all words in their place."""
        right = sample.references[0].split()
        words = said.split()
        same = sum(a == b for a, b in zip(words, right, strict=False))
        return {"prefix": matched_prefix(words, right), "in_place": same / len(right)}


def _near(at: int, last: int) -> Iterator[int]:
    """Places from 0 to last, the nearest first, some hundred of them."""
    for step in range(100):
        yield from (place for place in {at - step, at + step} if 0 <= place <= last)


__all__ = ["Copy"]
