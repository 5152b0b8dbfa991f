"""What judgements say of each recipe: means, tests against `full`, win rates, what is not known."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any

from lengthwise.evaluation.metrics.differences import (
    Difference,
    Mean,
    by_question,
    difference_of,
    mean_of,
)
from lengthwise.evaluation.metrics.judgement_row import JudgementRow
from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.metrics.scores import BASELINE, recipes_in
from lengthwise.evaluation.scorers._libraries import library
from lengthwise.evaluation.scorers.preferences import GROUPS, WinRates, length_controlled


@dataclass(frozen=True, slots=True)
class Judged:
    """A recipe as it was judged. What has no score has no say in any figure.

    mean: of its scores by question, None where it has none. against: its difference to `full` on
    the samples where both have one; of preferences, to a tie. unread: answers that could not be
    read. failed: replies for which there was no answer. changes: of how many pairs the verdict
    changed with the order, and of how many were asked both ways. controlled: the win rate at equal
    length, of five preferences or more. judged: replies with a score.
    """

    recipe: str
    mean: Mean | None
    against: Difference | None
    unread: int
    failed: int
    changes: tuple[int, int] | None = None
    controlled: WinRates | None = None
    judged: int = 0


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a judge agrees with the run's own scores. kind: "AUC" where these are 0 or 1, else
    "rank correlation" (Spearman's). n: replies with both."""

    kind: str
    value: float
    n: int


def judged_of(rows: Seq[JudgementRow], compares: bool, share: bool) -> list[Judged]:
    """What was found of each recipe.

    Args:
        rows: judgements.
        compares: whether they are preferences between two replies.
        share: whether scores are from 0 to 1.
    """
    base = {row.sample: row.score for row in rows if row.recipe == BASELINE}
    found = []
    for recipe in recipes_in(rows):
        mine = [row for row in rows if row.recipe == recipe]
        scores = [(row, row.score) for row in mine if row.score is not None]
        values = by_question((row.unit, score) for row, score in scores)
        pairs = [
            (row.unit, score, other) for row, score in scores
            if (other := 0.5 if compares else base.get(row.sample)) is not None
        ]  # fmt: skip
        against = None
        if pairs and (compares or recipe != BASELINE):
            against = difference_of(
                by_question((unit, score) for unit, score, _ in pairs),
                by_question((unit, other) for unit, _, other in pairs),
            )
        found.append(
            Judged(
                recipe, mean_of(values, share) if values else None, against,
                sum(row.unread for row in mine), sum(row.failed is not None for row in mine),
                _changes(mine) if compares else None,
                _controlled([row for row, _ in scores]) if compares else None, len(scores),
            )
        )  # fmt: skip
    return found


def agreement_of(
    rows: Seq[JudgementRow], run: Seq[SampleRow], against: str | None = None
) -> Agreement | None:
    """How judgements agree with a run's own scores; None where one of them is always the same.

    Args:
        rows: judgements.
        run: the rows of the run.
        against: the recipe that preferences are held against; its scores are taken off.
    """
    own = {row.key: row.score for row in run}
    pairs = []
    for row in rows:
        score, other = own.get(row.key), own.get((*row.sample, against or ""))
        if row.score is None or score is None or (against is not None and other is None):
            continue
        pairs.append((row.score, score - (other or 0.0) if against is not None else score))
    judged, right = [a for a, _ in pairs], [b for _, b in pairs]
    if len(set(judged)) < 2 or len(set(right)) < 2:
        return None
    stats: Any = library("scipy.stats")
    if set(right) == {0.0, 1.0}:
        good = [a for a, b in pairs if b == 1.0]
        bad = [a for a, b in pairs if b == 0.0]
        ranked = stats.mannwhitneyu(good, bad).statistic / (len(good) * len(bad))
        return Agreement("AUC", float(ranked), len(pairs))
    return Agreement(
        "rank correlation", float(stats.spearmanr(judged, right).statistic), len(pairs)
    )


def _changes(rows: Seq[JudgementRow]) -> tuple[int, int]:
    asked = [row.scores["changes"] for row in rows if "changes" in row.scores]
    return sum(map(bool, asked)), len(asked)


def _controlled(rows: Seq[JudgementRow]) -> WinRates | None:
    pairs = [row for row in rows if len(row.characters) == 2]
    wins = by_question((row.unit, row.score or 0.0) for row in pairs)
    if len(wins) < GROUPS:
        return None
    mine, others = (by_question((row.unit, row.characters[n]) for row in pairs) for n in (0, 1))
    return length_controlled(wins, [round(each) for each in mine], [round(each) for each in others])


__all__ = ["Agreement", "Judged", "agreement_of", "judged_of"]
