"""Countdown: a target is made of four numbers, each used once, and the search is written step by
step.

The search goes depth first over pairs of numbers, the larger first, and over + - * /. What is no
whole number, below 1, or above 2,000 is dropped. Two of the numbers are so replaced by one, until
one is left.

A unit is a line of the search. Numbers are drawn, the search is written to its end, and the target
is the last value that first appears within the length: so the reply is as long as is wanted, and
nearly all of the length is written. Where a search of four numbers is too short, of some
thousand lines, there are five.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass

from lengthwise.evaluation.scorers.countdown import solves
from lengthwise.evaluation.scorers.orders import matched_prefix
from lengthwise.evaluation.scorers.replies import tagged
from lengthwise.evaluation.tasks.benchmark import Sample, Wanted, largest

LARGEST = 2000
_USED = 0.8
_RULES = (
    "Make the target of the numbers: each of them is used once, with + - * /. Search depth first: "
    "pick two numbers, the larger first, and try the four operations. Drop what is no whole "
    "number, below 1, or above 2000. Write every step as in the example, then the equations "
    "between <Solution> and </Solution>.\n\n"
)
_CASE = "Numbers: {numbers}\nTarget: {target}"


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where the search makes a value of all numbers: its line, and the equations that led there."""

    line: int
    value: int
    equations: tuple[str, ...]


def search(numbers: Seq[int], most: int | None = None) -> tuple[list[str], list[Leaf]]:
    """The whole search, for no target.

    Args:
        numbers: at least two.
        most: lines after which it stops; None is no bound.

    Returns:
        Its lines, and where each value first appears.
    """
    lines: list[str] = []
    found: dict[int, Leaf] = {}
    _visit(list(numbers), (), lines, found, most or sys.maxsize)
    return lines, list(found.values())


def _visit(
    numbers: list[int],
    done: tuple[str, ...],
    lines: list[str],
    found: dict[int, Leaf],
    most: int,
) -> None:
    for i in range(len(numbers)):
        for j in range(i + 1, len(numbers)):
            if len(lines) >= most:
                return
            large, small = max(numbers[i], numbers[j]), min(numbers[i], numbers[j])
            rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
            lines.append(f"Pick {large} and {small}{_listed(', left', rest)}")
            for equation, value in _tried(large, small):
                if value is None:
                    lines.append(f"Try {equation}, drop")
                    continue
                path = (*done, equation)
                if rest:
                    left = [*rest, value]
                    lines.append(f"Try {equation}{_listed(', now', left)}")
                    _visit(left, path, lines, found, most)
                else:
                    lines.append(f"Try {equation}, no")
                    found.setdefault(value, Leaf(len(lines), value, path))


def _tried(large: int, small: int) -> Iterator[tuple[str, int | None]]:
    """The four operations: what is written, and the value, None where it is dropped."""
    for sign in "+-*/":
        value = compute(large, sign, small)
        kept = value is not None and 1 <= value <= LARGEST
        shown = f"{large} {sign} {small} = {'no whole number' if value is None else value}"
        yield shown, value if kept else None


def compute(a: int, sign: str, b: int) -> int | None:
    """The value of one operation; None where it is no whole number.

    Args:
        a: left.
        sign: one of + - * /.
        b: right.
    """
    if sign == "/":
        return a // b if b and a % b == 0 else None
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def _listed(word: str, numbers: Seq[int]) -> str:
    return f"{word} {' '.join(map(str, numbers))}" if numbers else ""


def written(lines: Seq[str], leaf: Leaf) -> str:
    """The search to its target, and the solution.

    Args:
        lines: of the whole search.
        leaf: that is the target.
    """
    ended = [*lines[: leaf.line - 1], lines[leaf.line - 1].removesuffix("no") + "yes"]
    return "\n".join([*ended, "<Solution>", *leaf.equations, "</Solution>"])


def countdown(wanted: Wanted, count: int | None, draw: random.Random) -> Sample:
    """A sample.

    Args:
        wanted: how long.
        count: of numbers; None takes four, or five where a search of four is too short.
        draw: source of chance.
    """
    shown = draw.sample(range(1, 20), 3)
    example, ends = search(shown)
    first = next(each for each in ends if each.line > 6)
    text = _RULES + "Example\n" + _case(shown, first) + "\n" + written(example, first)
    numbers = draw.sample(range(1, 100), count or 5)
    if count is None:
        found = _longest(wanted, numbers[:4], text)
        if wanted.size(found) > _USED * wanted.length:
            return found
    return _longest(wanted, numbers, text)


def _longest(wanted: Wanted, numbers: Seq[int], text: str) -> Sample:
    """The target whose search is as long as wanted, or the last one that there is."""
    # A line has several tokens, so a search of as many lines is longer than is wanted.
    lines, leaves = search(numbers, wanted.length)

    def build(units: int) -> Sample:
        leaf = next((each for each in reversed(leaves) if each.line <= units), leaves[0])
        right = written(lines, leaf)
        facts = {"numbers": list(numbers), "target": leaf.value}
        asked = _case(numbers, leaf)
        most = wanted.tokens(right) * 11 // 10 + 16
        return Sample(text, asked, (right,), most, facts=facts)

    return largest(wanted, build, leaves[0].line, len(lines))


def _case(numbers: Seq[int], leaf: Leaf) -> str:
    return _CASE.format(numbers=" ".join(map(str, numbers)), target=leaf.value)


def score_countdown(said: str, sample: Sample) -> Mapping[str, float]:
    """Whether the solution is right; else the share of the search before its first wrong line.

    Args:
        said: the reply.
        sample: that was asked.
    """
    solution = tagged(said, "Solution")
    if solution and solves(solution, sample.facts["numbers"], sample.facts["target"]):
        return {"accuracy": 1.0, "partial": 1.0}
    share = matched_prefix(_searched(said), _searched(sample.references[0]))
    return {"accuracy": 0.0, "partial": share}


def _searched(said: str) -> list[str]:
    """The lines of a search, before its solution."""
    before = said.partition("<Solution>")[0]
    return [" ".join(line.split()) for line in before.splitlines() if line.strip()]


__all__ = ["LARGEST", "Leaf", "compute", "countdown", "score_countdown", "search", "written"]
