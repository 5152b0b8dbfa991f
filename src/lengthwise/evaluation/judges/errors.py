"""A list of errors and what they cost: TIGERScore's judge.

Jiang et al., "TIGERScore: Towards Building Explainable Metric for All Text Generation Tasks", TMLR
2024, arXiv:2310.00752. Without a reference, the judge says how many errors a text has, and of each
where it is, what it is about, why it is one, how severe it is, and a reduction of 0.5 to 5. The
score is minus their sum: 0 is the best.

Ours differs: any model may judge, where the paper trains one. A run holds no documents, so the
judge sees the question alone; `reference` shows it the right replies as source. A total that its
count of errors does not allow cannot be read, nor more errors than the reply has words (or 5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.judges.judge import Case, listed
from lengthwise.evaluation.scorers.error_lists import PROMPT, read_errors
from lengthwise.methods.options import option

# What one error costs, at least and at most; and a total that repeats this.
_LEAST, _MOST = 0.5, 5.0
# As many errors as any reply may have.
_ANY = 5
_RANGE = re.compile(r"reduction of \d+(?:\.\d+)? ?(?:to|-|–) ?\d", re.IGNORECASE)


@dataclass(frozen=True)
class Errors:
    """TIGERScore. The score is minus what the errors cost."""

    name: ClassVar[str] = "errors"
    paper: ClassVar[Paper] = Paper(
        "TIGERScore: Towards Building Explainable Metric for All Text Generation Tasks",
        "Jiang et al.", 2023, arxiv="2310.00752", venue="TMLR",
        code="https://github.com/TIGER-AI-Lab/TIGERScore",
    )  # fmt: skip
    scale: ClassVar[tuple[float, float]] = (float("-inf"), 0.0)
    most: ClassVar[int] = 1024
    compares: ClassVar[bool] = False

    reference: bool = option(False, "the right replies are shown as source")

    @property
    def grounded(self) -> bool:
        """Where references are shown."""
        return self.reference

    def asked(self, case: Case) -> Seq[str]:
        """One prompt."""
        source = f"Right answers:\n{listed(case.references)}" if self.reference else ""
        return (
            PROMPT.format(instruction=case.question, source=source, output=case.replies[0]),
        )  # fmt: skip

    def read(self, part: int, said: str, case: Case) -> Mapping[str, float] | None:
        """Minus the total, and how many errors there are."""
        found = read_errors(said)
        if found is None or _RANGE.search(said):
            return None
        if found.count > max(_ANY, len(case.replies[0].split())):
            return None
        if not _LEAST * found.count <= -found.score <= _MOST * found.count:
            return None
        return {"score": found.score, "errors": float(found.count)}

    def verdict(self, parts: Seq[Mapping[str, float]], case: Case) -> Mapping[str, float]:
        """As it was read."""
        return parts[0]


__all__ = ["Errors"]
