"""Passkey retrieval (Mohtashami and Jaggi 2023, arXiv 2305.16300): a number among sentences that
say nothing.

A key sentence stands between repetitions of five short sentences, and the number is asked for. It
has five digits, as in later versions. Ours differs: the filler is in our own words, its length is
counted in whole prompts, and the place is asked for or drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.numbers import first_int
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted, largest
from lengthwise.evaluation.tasks.generated._shared.hay import FILLER
from lengthwise.methods.options import option

_TASK = (
    "Somewhere in the text below stands one fact that matters. Find it and keep it in mind; "
    "there will be a question about it.\n\n"
)
_KEY = "The pass key is {key}. Remember it: {key} is the pass key.\n"
_QUESTION = "What is the pass key?"
_STUB = "The pass key is"


@dataclass(frozen=True)
class Passkey:
    """A number hidden in filler. Scored by the first number of the reply."""

    name: ClassVar[str] = "passkey"
    paper: ClassVar[Paper] = Paper(
        "Landmark Attention: Random-Access Infinite Context Length for Transformers",
        "Mohtashami and Jaggi", 2023, arxiv="2305.16300",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {"passkey": Difficulty("low", "low")}

    digits: int = option(5, "digits of the number", low=1, high=30)

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """A key a sample, at the depth that is wanted or drawn."""
        for draw in wanted.draws(task):
            key = str(draw.randrange(10 ** (self.digits - 1), 10**self.digits))
            depth = draw.random() if wanted.depth is None else wanted.depth
            yield largest(wanted, partial(_sample, key, depth))

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """1 where the first number of the reply is the key."""
        return {"first_int": first_int(said, sample.references)}


def _sample(key: str, depth: float, units: int) -> Sample:
    before = round(depth * units)
    hidden = _KEY.format(key=key)
    text = f"{_TASK}{FILLER * before}{hidden}{FILLER * (units - before)}"
    return Sample(text, _QUESTION, (key,), 16, _STUB, before / units)


__all__ = ["Passkey"]
