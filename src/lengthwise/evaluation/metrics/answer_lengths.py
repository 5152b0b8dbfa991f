"""Precise and flexible match: whether answers are as long as they were asked to be.

Both are shares of answers whose words lie in a band of the class that was asked for; the bands are
those of Ruler (`methods.prompting.ruler`), and the flexible one is the wider one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lengthwise.errors import LengthwiseError
from lengthwise.methods.prompting.ruler import CLASSES, ruler_words, within_band


@dataclass(frozen=True, slots=True)
class LengthMatch:
    """How often lengths are met.

    target: the class, "all" for all of them. precise, flexible: shares. words: mean of the answers.
    """

    target: str
    answers: int
    precise: float
    flexible: float
    words: float


def length_matches(answers: Iterable[tuple[str, str]]) -> list[LengthMatch]:
    """Matches of each class that was asked for, and of all answers together, which come last.

    Args:
        answers: what was asked for, such as "30" or ">800", and the text that came. Meta length
            tokens are no part of it.

    Raises:
        LengthwiseError: for a length that is no class.
    """
    known = {each.target: each for each in CLASSES}
    counts: dict[str, list[int]] = {}
    for target, text in answers:
        if target not in known:
            raise LengthwiseError(f"length {target!r}: allowed are {', '.join(known)}")
        counts.setdefault(target, []).append(ruler_words(text))
    found, hits = [], [0, 0]
    for target, words in counts.items():
        kind = known[target]
        precise = sum(within_band(n, kind.precise) for n in words)
        flexible = sum(within_band(n, kind.flexible) for n in words)
        hits = [hits[0] + precise, hits[1] + flexible]
        found.append(_match(target, words, precise, flexible))
    if found:
        together = [n for words in counts.values() for n in words]
        found.append(_match("all", together, *hits))
    return found


def _match(target: str, words: list[int], precise: int, flexible: int) -> LengthMatch:
    count = len(words)
    return LengthMatch(target, count, precise / count, flexible / count, sum(words) / count)


__all__ = ["LengthMatch", "length_matches"]
