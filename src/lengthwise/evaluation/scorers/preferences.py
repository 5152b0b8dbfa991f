"""Length-controlled win rates: how often a model would win if answers were equally long.

Dubois and others, "Length-Controlled AlpacaEval: A Simple Way to Debias Automatic Evaluators",
2024, arXiv:2404.04475. Of an instruction x, with y the judge's preference for the model in [0, 1]:

    d(x) = tanh((len(baseline) - len(model)) / std over all x), in characters
    y(x) ~ sigmoid(a + b d(x) + c difficulty(x))
    win rate = mean over x of sigmoid(a + c difficulty(x))

No intercept beside a; L1 penalty, chosen by cross-validation in 5 groups (liblinear). A preference
y is two rows, of a win with weight y and of a loss with weight 1 - y, which stay in one group. Rows
of "gamed" baselines (told to be brief or wordy) have a = 0 and weight 0.2 / 2: they say what length
alone is worth. Win rates against other baselines cannot be compared with these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers._libraries import library

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

GROUPS = 5
GAMED_WEIGHT = 0.2 / 2
_SEED = 123


@dataclass(frozen=True, slots=True)
class Gamed:
    """A comparison of the baseline with itself, told to be brief or wordy.

    length: (the baseline's characters minus those of the gamed answer) / their deviation.
    """

    preference: float
    length: float
    difficulty: float = 0.0


@dataclass(frozen=True, slots=True)
class WinRates:
    """Shares of 1. raw: mean preference. controlled: at equal length, with its standard error.

    ability, length, difficulty: the coefficients a, b and c; c is None without difficulties.
    """

    raw: float
    controlled: float
    error: float
    ability: float
    length: float
    difficulty: float | None


def length_controlled(
    preferences: Seq[float],
    model_lengths: Seq[int],
    baseline_lengths: Seq[int],
    *,
    difficulties: Seq[float] | None = None,
    gamed: Seq[Gamed] = (),
    groups: int = GROUPS,
) -> WinRates:
    """The win rate at equal length: LC-AlpacaEval (arXiv:2404.04475).

    Args:
        preferences: for the model, 0 to 1, one an instruction; ties are 0.5.
        model_lengths: characters of its answers.
        baseline_lengths: characters of the baseline's answers.
        difficulties: of the instructions; the authors have them fitted over many models. None
            leaves the term out.
        gamed: comparisons with gamed baselines. Without, a model whose answers are all longer by
            about as much cannot be told from one that is better.
        groups: of the cross-validation.

    Returns:
        Raw and length-controlled win rates with the coefficients.

    Raises:
        LengthwiseError: for unequal numbers of values, preferences outside 0 to 1, too few
            instructions, or where scikit-learn is missing.
    """
    _check(preferences, model_lengths, baseline_lengths, difficulties, groups)
    np = library("numpy")
    given = difficulties is not None
    hard = np.asarray(difficulties if given else np.zeros(len(preferences)), dtype=float)
    gaps = np.asarray(baseline_lengths, dtype=float) - np.asarray(model_lengths, dtype=float)
    lengths = np.tanh(gaps / gaps.std(ddof=1)) if gaps.std() else np.zeros(len(gaps))
    # Gamed rows come first, as in the released code: the folds depend on the order.
    features = np.column_stack([
        np.concatenate([np.tanh([each.length for each in gamed]), lengths]),
        np.concatenate([[each.difficulty for each in gamed], hard]),
        np.concatenate([np.zeros(len(gamed)), np.ones(len(hard))]),
    ])  # fmt: skip
    wins = np.concatenate([[each.preference for each in gamed], preferences])
    weights = np.concatenate([np.full(len(gamed), GAMED_WEIGHT), np.ones(len(hard))])
    columns = [0, 1, 2] if given else [0, 2]
    coefficients = np.zeros(3)
    coefficients[columns] = _fit(features[:, columns], wins, weights, groups)
    length, difficulty, ability = map(float, coefficients)
    chances = 1 / (1 + np.exp(-(ability + difficulty * hard)))
    error = float(chances.std(ddof=1)) / math.sqrt(len(chances))
    return WinRates(
        float(np.mean(preferences)), float(chances.mean()), error, ability, length,
        difficulty if given else None,
    )  # fmt: skip


def between(first: WinRates, second: WinRates, difficulties: Seq[float] = (0.0,)) -> float:
    """The win rate of one model against another, both held against one baseline: arXiv:2404.04475.

    Args:
        first: of the model.
        second: of its opponent.
        difficulties: of the instructions.

    Returns:
        0 to 1: the mean chance by the difference of their coefficients.
    """
    ability = first.ability - second.ability
    slope = (first.difficulty or 0.0) - (second.difficulty or 0.0)
    chances = [1 / (1 + math.exp(-(ability + slope * each))) for each in difficulties]
    return sum(chances) / len(chances)


def _fit(features: Floats, wins: Floats, weights: Floats, groups: int) -> Floats:
    np = library("numpy")
    linear, selection = library("sklearn.linear_model"), library("sklearn.model_selection")
    rows = np.concatenate([features, features])
    labels = np.repeat([1, 0], len(wins))
    chances = np.concatenate([wins, 1 - wins])
    group = np.tile(np.arange(len(wins)), 2)
    twice = np.concatenate([weights, weights])
    folds = list(selection.GroupKFold(n_splits=groups).split(rows, labels, group))
    best = _strength(linear, rows, labels, chances, twice, folds)
    model = _regression(linear, best).fit(rows, labels, sample_weight=chances * twice)
    found: Floats = np.asarray(model.coef_[0], dtype=float)
    return found


def _strength(
    linear: Any, rows: Floats, labels: Any, chances: Floats, weights: Floats, folds: Seq[Any]
) -> float:
    """The inverse penalty with the least log loss on held-out groups."""
    np = library("numpy")
    strengths = np.logspace(-4, 4, 10)
    losses = np.zeros((len(folds), len(strengths)))
    for fold, (train, test) in enumerate(folds):
        weight = (chances * weights)[train]
        for place, strength in enumerate(strengths):
            model = _regression(linear, strength)
            model.fit(rows[train], labels[train], sample_weight=weight)
            said = np.clip(model.predict_proba(rows[test])[:, 1], 1e-15, 1 - 1e-15)
            truth = np.where(labels[test] == 1, chances[test], 1 - chances[test])
            loss = truth * np.log(said) + (1 - truth) * np.log(1 - said)
            losses[fold, place] = -(loss * weights[test]).mean()
    return float(strengths[losses.mean(axis=0).argmin()])


def _regression(linear: Any, strength: float) -> Any:
    return linear.LogisticRegression(
        C=strength, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=_SEED
    )


def _check(
    preferences: Seq[float],
    model_lengths: Seq[int],
    baseline_lengths: Seq[int],
    difficulties: Seq[float] | None,
    groups: int,
) -> None:
    counts = {len(preferences), len(model_lengths), len(baseline_lengths)}
    if difficulties is not None:
        counts.add(len(difficulties))
    if len(counts) > 1:
        raise LengthwiseError(
            f"numbers of preferences, lengths and difficulties differ: {sorted(counts)}; give one "
            "of each an instruction"
        )
    if len(preferences) < groups:
        raise LengthwiseError(f"{len(preferences)} preferences: at least {groups} are needed")
    outside = [each for each in preferences if not 0 <= each <= 1]
    if outside:
        raise LengthwiseError(f"preference {outside[0]}: allowed are 0 to 1, the model's wins as 1")


__all__ = ["GAMED_WEIGHT", "GROUPS", "Gamed", "WinRates", "between", "length_controlled"]
