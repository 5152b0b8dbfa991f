"""A row a task and metric: the scores of recipes with their intervals, and what differs from full.

The 95% interval of a score is Wilson's where samples are right or wrong, that of the
log-probabilities where these make a perplexity, else that of its standard error. Whether a recipe
differs from full is tested on the same samples pair by pair (`metrics.differences`): on the
metric's values, or on log-probabilities where these are what it is made of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from lengthwise.evaluation.harness.outcome import HarnessSample, Outcome
from lengthwise.evaluation.harness.run import HarnessRun
from lengthwise.evaluation.metrics.differences import Difference, difference_of, mean_of
from lengthwise.evaluation.metrics.intervals import Z, standard_error


@dataclass(frozen=True)
class Cell:
    """A recipe's score. interval: of 95%, or None. over_full: the score less that of full. tested:
    pairs of samples; None where there are none, and for full itself."""

    value: float
    interval: tuple[float, float] | None
    over_full: float | None = None
    tested: Difference | None = None


@dataclass(frozen=True)
class ScoreRow:
    """A metric of a task. n: samples. higher: whether more is better; None where nobody says.
    cells: by recipe."""

    task: str
    metric: str
    n: int
    higher: bool | None
    cells: dict[str, Cell]


def score_rows(run: HarnessRun) -> list[ScoreRow]:
    """What a run's table shows.

    Args:
        run: what `run_harness` gave.
    """
    by_recipe: dict[str, dict[tuple[str, str], Outcome]] = {}
    for outcome in run.outcomes:
        mine = by_recipe.setdefault(outcome.recipe, {})
        for task, scores in outcome.scores.items():
            mine |= {(task, metric): outcome for metric in scores}
    full = by_recipe.get("full", {})
    rows = []
    for (task, metric), plain in full.items():
        score = plain.scores[task][metric]
        cells = {"full": _cell(plain, task, metric)}
        for recipe in run.recipes:
            own = by_recipe.get(recipe, {}).get((task, metric))
            if recipe != "full" and own is not None:
                over = own.scores[task][metric].value - score.value
                tested = _tested(own, plain, task, metric)
                cells[recipe] = _cell(own, task, metric, over, tested)
        name, _, filter_ = metric.partition(",")
        shown = name if filter_ == "none" else f"{name} ({filter_})"
        rows.append(ScoreRow(task, shown, score.n, score.higher, cells))
    return rows


def _cell(
    outcome: Outcome, task: str, metric: str, over_full: float | None = None,
    tested: Difference | None = None,
) -> Cell:  # fmt: skip
    score = outcome.scores[task][metric]
    values = list(_numbers(outcome.samples, task, metric).values())
    if values and set(values) <= {0.0, 1.0} and abs(fmean(values) - score.value) < 1e-9:
        right = mean_of(values)
        return Cell(score.value, (right.low, right.high), over_full, tested)
    spread = standard_error(values)
    if metric.startswith("perplexity,") and spread is not None:
        # Its values are log-probabilities: the interval is theirs, and above 0.
        middle = fmean(values)
        between = math.exp(-middle - Z * spread), math.exp(-middle + Z * spread)
        return Cell(score.value, between, over_full, tested)
    if score.error is None:
        return Cell(score.value, None, over_full, tested)
    low, high = score.value - Z * score.error, score.value + Z * score.error
    return Cell(score.value, (low, high), over_full, tested)


def _tested(outcome: Outcome, plain: Outcome, task: str, metric: str) -> Difference | None:
    """A recipe's samples beside those of full."""
    own, others = (_numbers(each.samples, task, metric) for each in (outcome, plain))
    both = [key for key in own if key in others]
    if not both:
        return None
    return difference_of([own[key] for key in both], [others[key] for key in both])


def _numbers(samples: list[HarnessSample], task: str, metric: str) -> dict[int, float]:
    """By document what a metric is made of: its value, or the first of (sum, weight)."""
    name, _, filter_ = metric.partition(",")
    found = {}
    for sample in samples:
        value = (
            sample.metrics.get(name) if (sample.task, sample.filter) == (task, filter_) else None
        )
        if isinstance(value, (list, tuple)) and len(value) == 2:
            value = value[0]
        if isinstance(value, (int, float)):
            found[sample.doc] = float(value)
    return found


__all__ = ["Cell", "ScoreRow", "score_rows"]
