"""RULER over lengths: means, weighted means and the effective length of each recipe.

Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?", COLM
2024, arXiv:2404.06654. A length's score is the mean over tasks. Of these scores, from the shortest
length to the longest, the mean weighs all alike; wAvg (inc) weighs them 1, 2, 3 ..., wAvg (dec) the
other way round. The effective length is the longest up to which all are above a threshold, the
score of Llama-2-7B at 4k tokens.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.metrics.scores import at_every_length, recipes_in
from lengthwise.evaluation.scorers.aggregates import (
    RULER_THRESHOLD,
    effective_length,
    weighted_mean,
)


@dataclass(frozen=True, slots=True)
class OverLengths:
    """A recipe on RULER's tasks at several lengths.

    scores: by length, None where it answered nothing. tasks: how many were asked at every length.
    mean, rising, falling: plain, wAvg (inc) and wAvg (dec); None where a length has no score.
    effective: the longest length up to which all scores are above the threshold, None for none.
    """

    recipe: str
    scores: dict[int, float | None]
    tasks: int
    mean: float | None
    rising: float | None
    falling: float | None
    effective: int | None
    threshold: float

    def dump(self) -> dict[str, Any]:
        """As JSON has it, by RULER's names."""
        return {
            "ruler": self.recipe, "scores": {str(at): got for at, got in self.scores.items()},
            "tasks": self.tasks, "avg": self.mean, "wavg_inc": self.rising,
            "wavg_dec": self.falling, "effective_length": self.effective,
            "threshold": self.threshold,
        }  # fmt: skip

    @property
    def effective_text(self) -> str:
        """The effective length in words: one beyond the longest is not known."""
        if self.effective is None:
            return f"<{min(self.scores):,}"
        return f"{self.effective:,}"


def over_lengths(rows: Seq[SampleRow], threshold: float = RULER_THRESHOLD) -> list[OverLengths]:
    """RULER's summary of each recipe.

    Tasks that were not asked at every length are left out of it, since lengths are compared.

    Args:
        rows: of a run; those of other benchmarks have no say.
        threshold: a share, that a length's score has to exceed.

    Returns:
        One a recipe; none where the run has fewer than two lengths of RULER.
    """
    mine = [row for row in rows if row.task.partition("/")[0].partition("(")[0] == "ruler"]
    lengths = sorted({row.length for row in mine})
    tasks = list(dict.fromkeys(row.task for row in at_every_length(mine)[0]))
    if len(lengths) < 2 or not tasks:
        return []
    return [_of_recipe(recipe, mine, lengths, tasks, threshold) for recipe in recipes_in(mine)]


def _of_recipe(
    recipe: str, rows: Seq[SampleRow], lengths: Seq[int], tasks: Seq[str], threshold: float
) -> OverLengths:
    values: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if row.recipe == recipe and row.score is not None:
            values.setdefault((row.task, row.length), []).append(row.score)
    scores: dict[int, float | None] = {}
    for length in lengths:
        means = [fmean(values[task, length]) for task in tasks if (task, length) in values]
        # A task that a recipe refuses at a length would make that length look easier.
        scores[length] = fmean(means) if len(means) == len(tasks) else None
    known = [score for score in scores.values() if score is not None]
    whole = len(known) == len(scores)
    return OverLengths(
        recipe, scores, len(tasks), fmean(known) if whole else None,
        weighted_mean(known) if whole else None,
        weighted_mean(known, rising=False) if whole else None,
        effective_length({at: -1.0 if got is None else got for at, got in scores.items()},
                         threshold=threshold),
        threshold,
    )  # fmt: skip


__all__ = ["OverLengths", "over_lengths"]
