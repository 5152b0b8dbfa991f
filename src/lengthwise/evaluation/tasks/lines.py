"""Line retrieval: a long record of lines that look alike, and a question for one of them.

The `lines` task of LongEval (LMSYS, 2023), which Giraffe's authors extended to longer prompts as
LongChat-Lines and judge their models by (arXiv 2308.10882). Every line has a name and a number,
nothing in them can be known beforehand, and the answer counts when the first number of the reply is
the right one. Cases are made here from a seed, in words of our own, at any length; the authors'
files are read as well.

    line silver-harbor: REGISTER_CONTENT is <40817>
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lengthwise.documents.json_lines import json_lines
from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.tasks.words import COMMON_WORDS

LARGEST = 50_000
_ASK = (
    "Here is a record. Each line has a name and, as REGISTER_CONTENT, a number. Remember the "
    "number of every line: at the end you are asked for one of them.\n\n"
)
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class LineCase:
    """One prompt. lines: how many it has; expected: the number asked for; place: where its line
    stands among the others, from 0 to 1 (None where a file does not say)."""

    prompt: str
    expected: int
    lines: int
    place: float | None = None

    def right(self, reply: str) -> bool:
        """Whether the first number of a reply is the one asked for."""
        found = _NUMBER.search(reply)
        return found is not None and int(found[0]) == self.expected


def line_case(lines: int, seed: int = 0) -> LineCase:
    """A record of so many lines, and the question for one of them."""
    most = len(COMMON_WORDS) * (len(COMMON_WORDS) - 1)
    if not 1 <= lines <= most:
        raise LengthwiseError(f"{lines:,} lines: allowed are 1 to {most:,}, each name once")
    draw = random.Random(seed)
    names: dict[str, int] = {}
    while len(names) < lines:
        name = "-".join(draw.sample(COMMON_WORDS, 2))
        names.setdefault(name, draw.randint(1, LARGEST))
    asked = draw.randrange(lines)
    name, expected = list(names.items())[asked]
    record = "".join(f"line {n}: REGISTER_CONTENT is <{v}>\n" for n, v in names.items())
    question = (
        f"\nWhat is the REGISTER_CONTENT in line {name}? Tell me the number only, without any "
        "other word."
    )
    return LineCase(_ASK + record + question, expected, lines, asked / max(1, lines - 1))


def fitted_case(length: int, tokens: Callable[[str], int], seed: int = 0) -> LineCase:
    """The longest case of at most `length` tokens. tokens: how many a prompt has.

    Raises LengthwiseError where not even one line fits.
    """
    least = tokens(line_case(1, seed).prompt)
    if least > length:
        raise LengthwiseError(
            f"a prompt of one line has {least:,} tokens and {length:,} are allowed: give more"
        )
    low, high = 1, 2
    while tokens(line_case(high, seed).prompt) <= length:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = tokens(line_case(middle, seed).prompt) <= length
        low, high = (middle, high) if fits else (low, middle)
    return line_case(low, seed)


def read_line_cases(path: str | Path) -> list[LineCase]:
    """Cases of a published file: JSON lines with `prompt` and `expected_number`.

    Raises DocumentError, naming the line, where one has not both.
    """
    path, found = Path(path), []
    for number, record in json_lines(path):
        try:
            prompt, expected = str(record["prompt"]), int(record["expected_number"])
        except (KeyError, TypeError, ValueError) as error:
            raise DocumentError(
                f"{path.name}, line {number}: a case has `prompt` and a whole `expected_number`"
            ) from error
        found.append(LineCase(prompt, expected, prompt.count("REGISTER_CONTENT is")))
    return found
