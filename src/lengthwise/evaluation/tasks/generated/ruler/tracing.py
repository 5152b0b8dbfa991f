"""Variable tracking of RULER (vt): assignments that pass a value on, among filler.

    VAR ABCDE = 12345        VAR FGHIJ = VAR ABCDE        VAR KLMNO = VAR FGHIJ ...

All variables that have the value at the end of the chain are asked for. One example that is solved,
with variables of its own, stands before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from string import ascii_uppercase

from lengthwise.evaluation.tasks.benchmark import Sample, Wanted, largest
from lengthwise.evaluation.tasks.generated._shared.hay import Hay

MOST = 30
_EXAMPLE_UNITS = 4
_TASK = "Follow the assignments of variables that are hidden in the text below.\n\n"
_QUESTION = "Which variables have the value {value} in the text above? Name all of them."
_STUB = "By the assignments in the text, {count} variables have the value {value}:"


def tracing(wanted: Wanted, chains: int, hops: int) -> Iterator[Sample]:
    """Samples with as many chains, of which the first is asked for.

    Args:
        wanted: how long and how many.
        chains: of assignments.
        hops: from variable to variable in each.
    """
    hay = Hay.filler()
    for draw in wanted.draws("ruler/vt"):
        example, shown = _Chains(chains, hops, draw), _Chains(chains, hops, draw)
        solved = f"{example.text(hay, _EXAMPLE_UNITS)}\n\n{example.question}\n{example.answer}\n\n"

        def build(units: int, solved: str = solved, shown: _Chains = shown) -> Sample:
            most = MOST * len(shown.asked) // 5
            text = solved + shown.text(hay, units)
            return Sample(text, shown.question, shown.asked, most, shown.stub)

        yield largest(wanted, build)


class _Chains:
    """Chains of assignments, each in order, at drawn depths."""

    def __init__(self, chains: int, hops: int, draw: random.Random) -> None:
        names: dict[str, None] = {}
        while len(names) < chains * (hops + 1):
            names["".join(draw.choices(ascii_uppercase, k=5))] = None
        values = [str(each) for each in draw.sample(range(10_000, 100_000), chains)]
        each = list(names)
        found: list[tuple[float, str]] = []
        for n, value in enumerate(values):
            own = each[n * (hops + 1) : (n + 1) * (hops + 1)]
            given = [value, *(f"VAR {name}" for name in own)]
            lines = [f"VAR {name} = {of}" for name, of in zip(own, given, strict=False)]
            found += zip(sorted(draw.random() for _ in own), lines, strict=True)
        self.asked, value = tuple(each[: hops + 1]), values[0]
        self.placed = sorted(found)
        self.question = _QUESTION.format(value=value)
        self.stub = _STUB.format(value=value, count=hops + 1)
        self.answer = f"{self.stub} {', '.join(self.asked)}"

    def text(self, hay: Hay, units: int) -> str:
        depths, lines = zip(*self.placed, strict=True)
        return _TASK + hay.with_needles(0, units, lines, depths)


__all__ = ["MOST", "tracing"]
