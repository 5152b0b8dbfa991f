"""Singh and Strouse, "Tokenization counts: the impact of tokenization on arithmetic in frontier
LLMs", 2024, arXiv:2402.14903.

Two numbers of 7 to 9 digits are added, behind solved additions of as many digits. Where numbers are
cut into groups of three digits from the left, a sum that is a digit longer shifts every group. So
the digits are written as they are, or with a mark between groups:

    nosep      1234567
    comma_r2l  1,234,567, grouped from the right; space_r2l with spaces
    comma_l2r  123,456,7, grouped from the left; space_l2r with spaces. A control: it has as many
               tokens as the other direction

Of 90 samples every pair of lengths has ten, as in the released code. A reply with one number, its
separators aside, is read; any other is wrong. `carried` are the figures of sums that are longer
than both numbers, `format` is whether the number was grouped as was asked.

Ours differs: solved additions stand before the question in one text, each on a line of its own, and
not as turns of a chat.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import Difficulty, NoRoom, Sample, Wanted
from lengthwise.methods.options import option

SEPARATORS = {"comma": ",", "space": " ", "dec": ".", "hashtag": "#", "dollar": "$", "foo": "foo"}
_SEPARATOR = "|".join(map(re.escape, SEPARATORS.values()))
_NUMBER = re.compile(rf"[0-9](?:(?:{_SEPARATOR})*[0-9])*")
_GROUP = 3


@dataclass(frozen=True)
class Addition:
    """Sums of two numbers whose digits are grouped in one way or another."""

    name: ClassVar[str] = "addition"
    paper: ClassVar[Paper] = Paper(
        "Tokenization counts: the impact of tokenization on arithmetic in frontier LLMs",
        "Singh and Strouse", 2024, arxiv="2402.14903",
        code="https://github.com/aadityasingh/TokenizationCounts",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = dict.fromkeys(
        ("nosep", "comma_r2l", "comma_l2r", "space_r2l", "space_l2r"), Difficulty("low", "low")
    )

    shots: int = option(8, "solved additions before the question", low=0, high=64)
    low: int = option(7, "digits of a number, at least", low=1, high=30)
    high: int = option(9, "digits of a number, at most", low=1, high=30)

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise LengthwiseError(f"addition: low={self.low} is more than high={self.high}")

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """Additions of every pair of lengths in turn."""
        lengths = range(self.low, self.high + 1)
        pairs = [(a, b) for a in lengths for b in lengths]
        for number in range(wanted.samples):
            # Nothing of the length: shorter prompts would be other problems.
            draw = random.Random(f"addition {wanted.seed} {number}")
            digits = pairs[number % len(pairs)]
            a, b, *solved = (
                drawn(draw, size) for _ in range(self.shots + 1) for size in digits
            )  # fmt: skip
            lines = [
                f"{_asked(task, c, d)}{grouped(c + d, task)}"
                for c, d in zip(solved[::2], solved[1::2], strict=True)
            ]
            right = grouped(a + b, task)
            facts = {"sum": a + b, "longer": len(str(a + b)) > max(digits), "format": task}
            sample = Sample(
                "", "\n".join([*lines, _asked(task, a, b)]), (right,), 3 * len(right) + 4,
                facts=facts, chat=False, stop=("\n",),
            )  # fmt: skip
            if not wanted.fits(sample):
                raise NoRoom(
                    f"addition/{task} has no sample of {wanted.length:,} tokens; give more, or "
                    "fewer shots"
                )
            yield sample

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """Whether the number is right, right where the sum is longer, and grouped as asked."""
        found = number_in(said)
        plain = None if found is None else int(re.sub(r"[^0-9]", "", found))
        right = float(plain == sample.facts["sum"])
        scores = {
            "right": right,
            "format": float(plain is not None and found == grouped(plain, task)),
        }
        return {**scores, "carried": right} if sample.facts["longer"] else scores


def grouped(number: int, way: str) -> str:
    """A number as a way writes it.

    Args:
        number: 0 or more.
        way: "nosep", or a separator and a direction, as "comma_r2l".
    """
    digits = str(number)
    if way == "nosep":
        return digits
    name, direction = way.split("_")
    first = len(digits) % _GROUP if direction == "r2l" else 0
    cuts = [0, *range(first or _GROUP, len(digits), _GROUP), len(digits)]
    return SEPARATORS[name].join(digits[a:b] for a, b in zip(cuts, cuts[1:], strict=False))


def number_in(said: str) -> str | None:
    """The only number of a reply, with its separators; None where there is none, or several.

    Args:
        said: the reply.
    """
    found = _NUMBER.findall(said.strip())
    return str(found[0]) if len(found) == 1 else None


def drawn(draw: random.Random, digits: int) -> int:
    """A number of so many digits.

    Args:
        draw: source of chance.
        digits: 1 or more.
    """
    return draw.randrange(10 ** (digits - 1), 10**digits)


def _asked(way: str, a: int, b: int) -> str:
    return f"{grouped(a, way)}+{grouped(b, way)}="


__all__ = ["SEPARATORS", "Addition", "drawn", "grouped", "number_in"]
