"""Ye et al., "LongProc: Benchmarking Long-Context Language Models on Long Procedural Generation",
COLM 2025, arXiv:2501.05414.

Three of its six procedures, those that can be made: the path through a graph, who believes what,
and a search with backtracking. All are deterministic, and a reply is right where it is right line
by line.

A length is prompt and reply together, of which the reply is a part that the file of each procedure
says: a model writes as long as it reads, and longer. Ours differs: instances and sentences are made
here, and the partial score is the matched share itself, where the released code counts the first
wrong line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted, largest
from lengthwise.evaluation.tasks.generated.procedures.countdown import countdown, score_countdown
from lengthwise.evaluation.tasks.generated.procedures.minds import minds, score_minds
from lengthwise.evaluation.tasks.generated.procedures.paths import path, score_path
from lengthwise.methods.options import option

_SCORES = {
    "path_traversal": score_path, "tom_tracking": score_minds, "countdown": score_countdown,
}  # fmt: skip


@dataclass(frozen=True)
class Procedures:
    """Long procedures. Scored by whether all of a reply is right, then by its right beginning."""

    name: ClassVar[str] = "procedures"
    paper: ClassVar[Paper] = Paper(
        "LongProc: Benchmarking Long-Context Language Models on Long Procedural Generation",
        "Ye et al.", 2025, arxiv="2501.05414", venue="COLM",
        code="https://github.com/princeton-pli/LongProc",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        "path_traversal": Difficulty("high", "high"),
        "tom_tracking": Difficulty("high", "high"),
        "countdown": Difficulty("high", "high"),
    }

    numbers: int | None = option(
        None, "numbers of countdown; none is 4, or 5 where a length needs it", low=3, high=5
    )

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """Samples of one of the three."""
        for draw in wanted.draws(f"procedures/{task}"):
            if task == "countdown":
                yield countdown(wanted, self.numbers, draw)
            else:
                yield largest(wanted, (path if task == "path_traversal" else minds)(wanted, draw))

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """1 where all of the reply is right; and the share before its first wrong line."""
        return _SCORES[task](said, sample)


__all__ = ["Procedures"]
