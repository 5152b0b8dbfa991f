"""The plan of a long text: read from what a model says, and fitted to the words asked for.

Small models keep to no form for long. So a plan is read tolerantly: numbered lines or lines with a
count of words, with or without "Main point", over several lines, in Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace

from lengthwise.tokenization.words import words_of

# Characters of a main point that are kept.
_LONGEST = 300
_NUMBER = r"\d[\d,]*"
_KIND = r"(?:part|paragraph|section|chapter|step|heading)"
_HEAD = re.compile(rf"(?:{_KIND}\s*(\d+)|(\d+)\s*[.):])\s*[-.:)\u2013\u2014]*\s*(.*)", re.I)
_RANGE = rf"({_NUMBER})(?:\s*(?:-|\u2013|to)\s*({_NUMBER}))?"
_ABOUT = r"(?:\b(?:about|around|approximately|roughly)\s+|~\s*)?"
_COUNTS = (
    re.compile(rf"words?(?:\s*counts?)?\W{{0,6}}{_ABOUT}{_RANGE}(?:\s*words?)?", re.I),
    re.compile(rf"{_ABOUT}(?<![\d,]){_RANGE}\s*-?\s*(?:words?\b|\u5b57)", re.I),
)
_LABEL = re.compile(r"\b(?:main\s+)?points?\s*:", re.I)
_BESIDE = "*#>|`\"'\u201c\u201d[]() \t"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a plan. point: what it says. words: how many; 0 where the plan does not say."""

    point: str
    words: int = 0


def read_plan(text: str) -> list[Part]:
    """The parts that a text lists, in its order; a point that comes again is left out.

    Args:
        text: lines such as "Part 1 - Main point: where to begin - Words: 400".
    """
    found: list[Part] = []
    known: set[str] = set()
    for block in _blocks(text):
        part = _part(block)
        key = " ".join(words_of(part.point.casefold()))
        if key and key not in known:
            known.add(key)
            found.append(part)
    return found


def _blocks(text: str) -> list[str]:
    """Numbered entries, each with the lines below it; without any, lines that count words."""
    blocks: list[str] = []
    lines = [line.strip(_BESIDE + "-\u2022") for line in text.splitlines()]
    for line in filter(None, lines):
        head = _HEAD.match(line)
        if head:
            blocks.append(head[3])
        elif blocks:
            blocks[-1] += f" {line}"
    return blocks or [line for line in lines if _counted(line) is not None]


def _counted(text: str) -> tuple[re.Match[str], int] | None:
    """The last count of words in a text, and what it says."""
    for pattern in _COUNTS:
        found = [*pattern.finditer(text)]
        if found:
            ends = [int(each.replace(",", "")) for each in found[-1].groups() if each]
            return found[-1], min(round(sum(ends) / len(ends)), 10**6)
    return None


def _part(block: str) -> Part:
    counted, words = _counted(block), 0
    if counted is not None:
        match, words = counted
        block = f"{block[: match.start()]} {block[match.end() :]}"
    point = " ".join(_LABEL.sub(" ", block).replace("**", "").split())
    point = point.strip(_BESIDE + "-\u2013\u2014:;,.")
    if len(point) > _LONGEST:
        point = point[:_LONGEST].rsplit(" ", 1)[0]
    return Part(point, words)


def usable(parts: Seq[Part], words: int, most_parts: int, most_words: int) -> bool:
    """Whether a plan can be written by: not too many parts, and none too long for one answer.

    Args:
        parts: of the plan.
        words: of the whole text.
        most_parts: allowed.
        most_words: of a part.
    """
    return 0 < len(parts) <= min(most_parts, words) and words / len(parts) <= most_words


def fitted(parts: Seq[Part], words: int, most_words: int) -> tuple[Part, ...]:
    """The plan with counts that add up to the words asked for, each scaled alike.

    Args:
        parts: of a usable plan. One without a count gets the mean of the others.
        words: of the whole text.
        most_words: of a part; a longer one is split into several of the same point.
    """
    said = [part.words for part in parts if part.words > 0]
    mean = sum(said) / len(said) if said else 1.0
    weights = [part.words or mean for part in parts]
    total, at, done, found = sum(weights), 0.0, 0, []
    for number, (part, weight) in enumerate(zip(parts, weights, strict=True), 1):
        at += weight
        # None gets nothing, and what comes behind it gets a word each.
        end = max(done + 1, min(round(words * at / total), words - (len(parts) - number)))
        found += _split(replace(part, words=end - done), most_words)
        done = end
    return tuple(found)


def _split(part: Part, most: int) -> list[Part]:
    count = -(-part.words // most)
    if count < 2:
        return [part]
    ends = [round(part.words * number / count) for number in range(count + 1)]
    return [
        Part(f"{part.point} ({number} of {count})", ends[number] - ends[number - 1])
        for number in range(1, count + 1)
    ]


def equal_parts(words: int, count: int) -> tuple[Part, ...]:
    """A plan without a model: so many parts of equal length.

    Args:
        words: of the whole text.
        count: of the parts, at least 1.
    """
    points = [f"the middle, {n} of {count}: what was not said before" for n in range(1, count + 1)]
    points[-1] = "the end: what follows from all of it"
    points[0] = "the beginning: what it is about" if count > 1 else "all of it"
    return fitted([Part(point) for point in points], words, words)


def as_text(parts: Seq[Part], first: int = 1) -> str:
    """A plan as it is shown to a model and to a user, a line a part.

    Args:
        parts: of the plan.
        first: number of the first of them.
    """
    return "\n".join(
        f"Part {number} - Main point: {part.point} - Words: {part.words}"
        for number, part in enumerate(parts, first)
    )


__all__ = ["Part", "as_text", "equal_parts", "fitted", "read_plan", "usable"]
