"""Needles of RULER: eight tasks that differ in haystack, in keys and in what is asked.

A needle names its key and value. Keys are adjective-noun words, numbers have seven digits. They
stand at ends of units of a haystack of filler, of the user's text (the essays), or of other
needles, at depths drawn from 40 even ones. A wanted depth is that of the first needle that is asked
for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted, largest
from lengthwise.evaluation.tasks.generated._shared.hay import Hay
from lengthwise.evaluation.tasks.generated._shared.pairs import Grown, apart, drawn_uuid
from lengthwise.evaluation.tasks.generated._shared.words import named

MOST = 128
_DEPTHS = [n / 39 for n in range(40)]
_INTRO = (
    "Some secret {kinds} are hidden in the text below. Keep them in mind: you will be asked for "
    "them.\n\n"
)
_NEEDLE = "One of the secret {kinds} of {key} is: {value}."


@dataclass(frozen=True, slots=True)
class Needles:
    """What is hidden where. keys: hidden; values: of each; asked: keys that are asked for."""

    hay: Literal["filler", "essay", "needles"]
    difficulty: Difficulty
    keys: int = 1
    values: int = 1
    asked: int = 1
    key: Literal["words", "uuid"] = "words"
    value: Literal["number", "uuid"] = "number"


_EASY, _LOOK_ALIKE = Difficulty("low", "low"), Difficulty("high", "low")
NEEDLES = {
    "niah_single_1": Needles("filler", _EASY),
    "niah_single_2": Needles("essay", _EASY),
    "niah_single_3": Needles("essay", _EASY, value="uuid"),
    "niah_multikey_1": Needles("essay", _EASY, keys=4),
    "niah_multikey_2": Needles("needles", _LOOK_ALIKE),
    "niah_multikey_3": Needles("needles", _LOOK_ALIKE, key="uuid", value="uuid"),
    "niah_multivalue": Needles("essay", _EASY, values=4),
    "niah_multiquery": Needles("essay", _EASY, keys=4, asked=4),
}


def needles(task: str, wanted: Wanted) -> Iterator[Sample]:
    """Samples of one of the eight tasks.

    Args:
        task: of `NEEDLES`.
        wanted: how long and how many.
    """
    spec = NEEDLES[task]
    essay = Hay.of(wanted.haystack) if spec.hay == "essay" else Hay.filler()
    for draw in wanted.draws(f"ruler/{task}"):
        yield largest(wanted, _builder(spec, essay, wanted.depth, draw))


def _builder(
    spec: Needles, hay: Hay, depth: float | None, draw: random.Random
) -> Callable[[int], Sample]:
    """What builds a sample of so many units; all that it takes is drawn here."""
    kinds = "numbers" if spec.value == "number" else "codes"
    key, value = _new(spec.key, draw), _new(spec.value, draw)
    keys = [key() for _ in range(spec.keys)]
    hidden = [(each, value()) for each in keys for _ in range(spec.values)]
    depths = [draw.choice(_DEPTHS) for _ in hidden]
    depths[0] = depths[0] if depth is None else depth
    asked = keys[: spec.asked]
    references = tuple(number for each, number in hidden if each in asked)
    order = sorted(zip(depths, draw.sample(range(len(hidden)), len(hidden)), hidden, strict=True))
    lines = [_NEEDLE.format(kinds=kinds, key=k, value=v) for _, _, (k, v) in order]
    begin = hay.begin(draw)

    def other() -> str:
        return _NEEDLE.format(kinds=kinds, key=key(), value=value()) + "\n"

    others = Grown(other)
    question, stub = _asked(spec, kinds, asked)

    def build(units: int) -> Sample:
        around = Hay(others.first(units), "\n") if spec.hay == "needles" else hay
        text = around.with_needles(begin, units, lines, [each for each, *_ in order])
        said = _INTRO.format(kinds=kinds) + text
        return Sample(said, question, references, MOST, stub, depths[0])

    return build


def _new(kind: str, draw: random.Random) -> Callable[[], str]:
    """What draws keys or values, none of them twice."""
    own = apart(draw)
    taken: set[str] = set()
    kinds: dict[str, Callable[[], str]] = {
        "words": lambda: named(own),
        "number": lambda: str(own.randrange(10**6, 10**7)),
        "uuid": lambda: drawn_uuid(own),
    }
    make = kinds[kind]

    def new() -> str:
        while (found := make()) in taken:
            pass
        taken.add(found)
        return found

    return new


def _asked(spec: Needles, kinds: str, keys: list[str]) -> tuple[str, str]:
    """The question, and what the reply begins with."""
    *most, last = keys
    them = f"{', '.join(most)} and {last}" if most else last
    if spec.asked * spec.values == 1:
        kind = kinds.removesuffix("s")
        return (
            f"What is the secret {kind} of {them} in the text above?",
            f"The secret {kind} of {them} in the text is",
        )
    return (
        f"What are all the secret {kinds} of {them} in the text above?",
        f"The secret {kinds} of {them} in the text are",
    )


__all__ = ["MOST", "NEEDLES", "Needles", "needles"]
