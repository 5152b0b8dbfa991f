"""Error lists of a judge: how many errors, where, how bad, and the score that is lost.

Jiang and others, "TIGERScore: Towards Building Explainable Metric for All Text Generation Tasks",
2023, arXiv:2310.00752. A judge without a reference writes:

    The model-generated output contains 2 errors, with a total score reduction of 4.5.
    Error location 1: ...
    Error aspect 1: ...
    Explanation 1: ...
    Severity 1: Major
    Score reduction 1: 4.0

The score is minus the total. A reply that cannot be read has no score: 0 is the best one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

PROMPT = """\
Find the errors in a text that a model wrote for an instruction.
Instruction:
{instruction}
{source}

Text:
{output}

Say first: The model-generated output contains N errors, with a total score reduction of R.
Then, for each error, a line each for:
Error location 1: the words that are wrong
Error aspect 1: what the error is about
Explanation 1: why it is an error, and what would be right
Severity 1: Major or Minor
Score reduction 1: a number from 0.5 to 5
"""
# Longer numbers are none of errors, and int takes no more than some thousand digits.
_COUNT = re.compile(r"(?<!\w)(\d{1,9}|no) errors?\b", re.IGNORECASE)
_TOTAL = re.compile(r"total (?:score )?reduction of (\d+(?:\.\d+)?)", re.IGNORECASE)
_FIELDS = {
    "location": "Error location", "aspect": "Error aspect", "explanation": "Explanation",
    "severity": "Severity", "reduction": "Score reduction",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class JudgedError:
    """One error. severity: as the judge wrote it. reduction: of the score; None where not said."""

    location: str
    aspect: str
    explanation: str
    severity: str
    reduction: float | None


@dataclass(frozen=True, slots=True)
class ErrorList:
    """What a judge said. count: of errors, as stated. score: 0 or below; higher is better."""

    count: int
    score: float
    errors: tuple[JudgedError, ...]

    @property
    def itemised(self) -> float:
        """Minus the sum of the reductions that are listed."""
        return -sum(each.reduction or 0.0 for each in self.errors)

    @property
    def consistent(self) -> bool:
        """Whether the list has as many errors as are stated, and their sum is the total."""
        return len(self.errors) == self.count and math.isclose(self.itemised, self.score)


def read_errors(reply: str, *, compat: bool = False) -> ErrorList | None:
    """A judge's list of errors: TIGERScore (arXiv:2310.00752).

    Args:
        reply: by the judge.
        compat: the total is read up to its point, so that 4.5 is 4, and a list whose fields are not
            equally many cannot be read, as in the released parser.

    Returns:
        The list; None where count or total is missing, which is no score of 0.
    """
    count, total = _COUNT.search(reply), _TOTAL.search(reply)
    if count is None or (compat and not count[1].isdigit()):
        return None
    number = int(count[1]) if count[1].isdigit() else 0
    if total is None:
        return ErrorList(0, 0.0, ()) if number == 0 and not compat else None
    fields = {name: _entries(reply, title) for name, title in _FIELDS.items()}
    if compat and len({len(each) for each in fields.values()}) > 1:
        return None
    numbers = sorted({number for each in fields.values() for number in each}, key=int)
    errors = tuple(_error(number, fields) for number in numbers)
    lost = float(total[1].split(".")[0] if compat else total[1])
    return ErrorList(number, -lost, errors)


def _entries(reply: str, title: str) -> dict[str, str]:
    found = re.findall(rf"^[ \t]*{title} (\d+):\s*(.*?)\s*$", reply, re.MULTILINE)
    return dict(found)


def _error(number: str, fields: Mapping[str, Mapping[str, str]]) -> JudgedError:
    said = {name: each.get(number, "") for name, each in fields.items()}
    lost = re.search(r"\d+(?:\.\d+)?", said.pop("reduction"))
    return JudgedError(**said, reduction=float(lost[0]) if lost else None)


__all__ = ["PROMPT", "ErrorList", "JudgedError", "read_errors"]
