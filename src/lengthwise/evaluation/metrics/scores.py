"""What the rows of a run say of each recipe: means with intervals, differences to `full`, costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from statistics import fmean, median
from typing import Protocol

from lengthwise.evaluation.metrics.differences import (
    Difference,
    Mean,
    by_question,
    difference_of,
    mean_of,
)
from lengthwise.evaluation.metrics.sample_row import SampleRow

BASELINE = "full"


@dataclass(frozen=True, slots=True)
class Score:
    """A recipe on some samples.

    mean: of its scores by question, None where it has none. against: its difference to `full` on
    the samples that both answered, by question too; None for `full` itself, and where that was not
    run. refused: samples that it did not answer. Replies that wait for a judge are neither.
    """

    recipe: str
    mean: Mean | None
    against: Difference | None
    refused: int

    @property
    def loses(self) -> bool:
        """Whether it is surely below `full`."""
        return self.against is not None and self.against.sure and self.against.value < 0

    @property
    def wins(self) -> bool:
        """Whether it is surely above `full`."""
        return self.against is not None and self.against.sure and self.against.value > 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a recipe took for some samples: medians of seconds and speeds, means of the rest.

    cut: samples that had more than fit. over: samples longer than the model was trained to read.
    """

    recipe: str
    ttft_s: float | None
    tokens_per_s: float | None
    kv_bytes: float | None
    tokens_read: float | None
    cut: int
    over: int


class HasRecipe(Protocol):
    """A row of a recipe."""

    @property
    def recipe(self) -> str:
        """As it prints."""
        ...


def recipes_in(rows: Seq[HasRecipe]) -> list[str]:
    """The recipes of rows, `full` first, then in their order."""
    names = dict.fromkeys(row.recipe for row in rows)
    return [name for name in names if name == BASELINE] + [n for n in names if n != BASELINE]


def scores_of(rows: Seq[SampleRow]) -> list[Score]:
    """The score of each recipe over rows.

    Args:
        rows: of the same samples under all recipes, as far as they were answered.
    """
    base = {row.sample: row.score for row in rows if row.recipe == BASELINE}
    found = []
    for recipe in recipes_in(rows):
        mine = [row for row in rows if row.recipe == recipe]
        values = by_question((row.unit, row.score) for row in mine if row.score is not None)
        pairs = [
            (row.unit, row.score, other) for row in mine
            if row.score is not None and (other := base.get(row.sample)) is not None
        ]  # fmt: skip
        against = None
        if pairs and recipe != BASELINE:
            against = difference_of(
                by_question((unit, score) for unit, score, _ in pairs),
                by_question((unit, other) for unit, _, other in pairs),
            )
        refused = sum(row.refused is not None for row in mine)
        found.append(Score(recipe, mean_of(values) if values else None, against, refused))
    return found


def at_every_length(rows: Seq[SampleRow]) -> tuple[list[SampleRow], list[str]]:
    """Rows of tasks that were asked at every length of rows, and the names of the other tasks.

    Lengths are compared over these alone: a hard task that joins at a greater length would make
    that length look harder.
    """
    lengths = {row.length for row in rows}
    asked: dict[str, set[int]] = {}
    for row in rows:
        asked.setdefault(row.task, set()).add(row.length)
    others = [task for task, its in asked.items() if its != lengths]
    return [row for row in rows if row.task not in others], others


def costs_of(rows: Seq[SampleRow]) -> list[Cost]:
    """What each recipe took, over the samples that it answered."""
    found = []
    for recipe in recipes_in(rows):
        mine = [row for row in rows if row.recipe == recipe and row.refused is None]
        found.append(
            Cost(
                recipe, _over(mine, lambda row: row.ttft_s, median),
                _over(mine, lambda row: row.tokens_per_s, median),
                _over(mine, lambda row: row.kv_bytes, fmean),
                _over(mine, lambda row: row.tokens_read, fmean),
                sum(row.cut_tokens > 0 for row in mine), sum(row.over for row in mine),
            )
        )  # fmt: skip
    return found


def refusals_of(rows: Seq[SampleRow]) -> list[tuple[str, int, str]]:
    """Recipes that did not answer, of how many samples, and why; each reason once."""
    counts = Counter((row.recipe, row.refused) for row in rows if row.refused is not None)
    return [(recipe, count, why) for (recipe, why), count in counts.items()]


def _over(
    rows: Seq[SampleRow], value: Callable[[SampleRow], float | None],
    mean: Callable[[list[float]], float],
) -> float | None:  # fmt: skip
    values = [found for row in rows if (found := value(row)) is not None]
    return mean(values) if values else None


__all__ = [
    "BASELINE", "Cost", "HasRecipe", "Score", "at_every_length", "costs_of", "recipes_in",
    "refusals_of", "scores_of",
]  # fmt: skip
