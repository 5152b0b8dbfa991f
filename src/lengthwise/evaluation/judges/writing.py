"""The quality of a long text in six dimensions: LongBench-Write's S_q.

Bai et al., "LongWriter: Unleashing 10,000+ Word Generation from Long Context LLMs", ICLR 2025,
arXiv:2408.07055. A strict judge looks at a reply to a request for writing, and gives JSON with an
analysis and six whole numbers from 1 to 5. Length has no say: S_l scores it.

    S_q = mean over dimensions of 25 (number - 1), from 0 to 100

Ours differs: words are ours, and numbers outside 1 to 5 cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.judges.answers import last_object, whole_in
from lengthwise.evaluation.judges.judge import Case

# What 5 means, and what 1 means.
DIMENSIONS = {
    "Relevance": "all of it fits the request, to none of it has to do with it",
    "Accuracy": "no error and nothing misleading, to many errors that mislead badly",
    "Coherence": "well built, each part leading to the next, to no order at all",
    "Clarity": "clear language and rich detail, to confusing and bare",
    "Breadth and Depth": "wide and deep, with much to learn, to narrow, shallow and empty",
    "Reading Experience": "a pleasure that is easy to follow, to dull and hard to follow",
}
_INTRO = "You judge the quality of texts. An assistant was asked to write something. Be strict."
_SCALE = "Give a whole number from 5 to 1 for each of six dimensions. From 5 to 1 they mean:"
_FIELDS = ", ".join(f'"{name}": ...' for name in DIMENSIONS)
_FORM = f"""\
Analyse the quality of the response shortly first, then give the numbers. Reply in JSON of this \
form alone: {{"Analysis": ..., {_FIELDS}}}. Whether the response is as long as was wished has no \
say. Each dimension has one whole number from 1 to 5."""


@dataclass(frozen=True)
class Writing:
    """LongBench-Write's judge. The score is S_q."""

    name: ClassVar[str] = "writing"
    paper: ClassVar[Paper] = Paper(
        "LongWriter: Unleashing 10,000+ Word Generation from Long Context LLMs", "Bai et al.", 2025,
        arxiv="2408.07055", venue="ICLR", code="https://github.com/THUDM/LongWriter",
    )  # fmt: skip
    scale: ClassVar[tuple[float, float]] = (0.0, 100.0)
    most: ClassVar[int] = 1024
    compares: ClassVar[bool] = False

    @property
    def grounded(self) -> bool:
        """Never."""
        return False

    def asked(self, case: Case) -> Seq[str]:
        """One prompt."""
        meant = "\n".join(
            f"{number}. {name}: {said}" for number, (name, said) in enumerate(DIMENSIONS.items(), 1)
        )
        request = f"<User Request>\n{case.question}\n</User Request>"
        response = f"<Response>\n{case.replies[0]}\n</Response>"
        return (f"{_INTRO}\n\n{_SCALE}\n{meant}\n\n{request}\n\n{response}\n\n{_FORM}",)

    def read(self, part: int, said: str, case: Case) -> Mapping[str, float] | None:
        """The six numbers."""
        found = last_object(said)
        numbers = {name: whole_in(found, name, 1, 5) for name in DIMENSIONS}
        read = {name: float(value) for name, value in numbers.items() if value is not None}
        return read if len(read) == len(DIMENSIONS) else None

    def verdict(self, parts: Seq[Mapping[str, float]], case: Case) -> Mapping[str, float]:
        """S_q, and the six numbers."""
        return {"S_q": fmean(25 * (number - 1) for number in parts[0].values()), **parts[0]}


__all__ = ["DIMENSIONS", "Writing"]
