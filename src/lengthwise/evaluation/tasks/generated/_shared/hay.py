"""Text in which things are hidden: sentences of the user's, lines that are made, or filler."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence as Seq

from lengthwise.errors import LengthwiseError
from lengthwise.retrieval.sentences import sentences

FILLER = (
    "The hills are quiet. The clouds are high. The lamp is lit. On we walk. Round the bend and "
    "home again.\n"
)


class Hay:
    """Units of text, read round and round, in which needles are put.

    Args:
        units: such as sentences, each with the space behind it.
        end: what stands behind a needle.
    """

    def __init__(self, units: Seq[str], end: str = " ") -> None:
        if not units:
            raise LengthwiseError("the text in which things are hidden is empty; give another")
        self.units, self.end = list(units), end

    @classmethod
    def of(cls, text: str, language: str = "en") -> Hay:
        """The sentences of a text.

        Args:
            text: the user's.
            language: its code, which says where sentences end.
        """
        return cls(sentences(text, language))

    @classmethod
    def filler(cls) -> Hay:
        """Short sentences that say nothing."""
        return cls([FILLER], "\n")

    def begin(self, draw: random.Random) -> int:
        """The unit with which a sample begins, drawn."""
        return draw.randrange(len(self.units))

    def plain(self, begin: int, units: int) -> list[str]:
        """So many units.

        Args:
            begin: the first of them.
            units: how many.
        """
        return [self.units[(begin + n) % len(self.units)] for n in range(units)]

    def with_needles(self, begin: int, units: int, needles: Seq[str], depths: Seq[float]) -> str:
        """So many units, with needles at the ends of units that are next to depths.

        Args:
            begin: the first unit.
            units: how many.
            needles: sentences to hide, in order.
            depths: of each, from 0 to 1 of the characters, rising.
        """
        hay = self.plain(begin, units)
        ends = [0]
        for each in hay:
            ends.append(ends[-1] + len(each))
        found, at = [], 0
        for needle, depth in zip(needles, depths, strict=True):
            place = max(at, min(bisect_right(ends, depth * ends[-1] + 0.5) - 1, units))
            before = "".join(hay[at:place])
            found += [before, "" if not before or before[-1].isspace() else " ", needle, self.end]
            at = place
        return "".join([*found, *hay[at:]]).strip()


__all__ = ["FILLER", "Hay"]
