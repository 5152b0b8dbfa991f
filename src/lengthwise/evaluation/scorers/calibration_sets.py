"""Calibration sets: which candidate summaries a model is calibrated on, in numbers.

Adams and others, "What are the Desired Characteristics of Calibration Sets? Identifying Correlates
on Long Form Scientific Summarization", ACL 2023, arXiv:2305.07615. A pool of candidates a document
has a quality each (z-scores of metrics, averaged) and a likelihood under the model:

    score_i = scale * (-sum of losses_i) / length_i ^ lp
    loss    = sum over i < j of max(0, margin (j - i) - (score_i - score_j))

with candidates from the best to the worst. What they find: for relevance, take large margins of the
metric and little surprise; for faithfulness, negatives that are extractive and likely.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence as Seq
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, pstdev

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers._libraries import library

MARGIN, SCALE, LENGTH_PENALTY = 0.001, 0.1, 2.0
SIZE = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A summary in a pool, by its numbers.

    quality: by metrics; higher is better. likelihood: its length-normalised log-probability.
    length: in tokens. density: how much is copied from the document, as fragments.
    beam: its rank in its beam, from 0.
    """

    quality: float
    likelihood: float = 0.0
    length: int = 0
    density: float = 0.0
    beam: int = 0


def candidate_scores(
    losses: Seq[Seq[float]], *, scale: float = SCALE, length_penalty: float = LENGTH_PENALTY
) -> list[float]:
    """The model's scores of candidates: arXiv:2305.07615, after BRIO (2022, arXiv:2203.16804).

    Args:
        losses: negative log-probabilities of each candidate's tokens, without padding.
        scale: of the scores.
        length_penalty: lp, the exponent of the length.

    Returns:
        One score a candidate, at most 0.
    """
    return [-scale * sum(each) / len(each) ** length_penalty for each in losses]


def margin_rank_loss(scores: Seq[float], *, margin: float = MARGIN, compat: bool = False) -> float:
    """What a wrong order of candidates costs: arXiv:2305.07615, after BRIO (arXiv:2203.16804).

    Args:
        scores: of candidates from the best to the worst.
        margin: between neighbours.
        compat: pairs equally far apart are averaged before distances are summed, as in the released
            code. Without, all pairs are summed, as in the equation.

    Returns:
        0 where each is ahead of the next by the margin.
    """
    total = 0.0
    for distance in range(1, len(scores)):
        pairs = zip(scores, scores[distance:], strict=False)
        lost = [max(0.0, margin * distance - (ahead - behind)) for ahead, behind in pairs]
        total += fmean(lost) if compat else sum(lost)
    return total


def surprise(qualities: Seq[float], likelihoods: Seq[float]) -> float:
    """1 - Kendall's tau between metric and model: arXiv:2305.07615.

    Args:
        qualities: of candidates, by metrics.
        likelihoods: of the same, by the model.

    Returns:
        0 for the same order, 2 for the reverse; 1 where either has no order.

    Raises:
        LengthwiseError: where scipy is missing.
    """
    tau = float(library("scipy.stats").kendalltau(qualities, likelihoods).statistic)
    return 1.0 if tau != tau else 1 - tau


def qualities(metrics: Mapping[str, Seq[float]], pool: Mapping[str, Seq[float]]) -> list[float]:
    """Mean z-scores of candidates over metrics: arXiv:2305.07615.

    Args:
        metrics: values of each metric, one a candidate.
        pool: values of the same metrics over the validation set, which give mean and deviation.

    Returns:
        One quality a candidate.

    Raises:
        LengthwiseError: where the pool lacks a metric, or has one value for all.
    """
    columns = []
    for name, values in metrics.items():
        known = list(pool.get(name, ()))
        spread = pstdev(known) if known else 0.0
        if not spread:
            raise LengthwiseError(f"metric {name!r}: the pool has no spread of it to divide by")
        columns.append([(value - fmean(known)) / spread for value in values])
    return [fmean(each) for each in zip(*columns, strict=True)]


def select(
    pool: Seq[Candidate],
    strategy: str,
    *,
    size: int = SIZE,
    seed: int = 0,
    similarity: Seq[Seq[float]] | None = None,
) -> tuple[int, ...]:
    """Which candidates of a pool make its calibration set: arXiv:2305.07615.

    Args:
        pool: of one document.
        strategy: one of `STRATEGIES`. "max_margin" and the like choose the set whose mean distance
            of neighbours in quality is largest; "gap" is the distance of best and worst; "surprise"
            that of `surprise`; "diversity" the mean unlikeness of two; "quality", "length",
            "likelihood", "density" (how extractive) and "beam" are means.
        size: of the set.
        seed: of "random".
        similarity: of every two candidates, from 0 to 1, such as BLEU; "diversity" needs it.

    Returns:
        Places in the pool, from the best candidate to the worst. Of equal sets the first counts.

    Raises:
        LengthwiseError: for another strategy, a pool that is smaller than the set, or diversity
            without similarities.
    """
    if len(pool) < size or size < 2:
        raise LengthwiseError(f"a set of {size} from a pool of {len(pool)}: take 2 to {len(pool)}")
    ordered = sorted(range(len(pool)), key=lambda place: -pool[place].quality)
    if strategy == "random":
        chosen = set(random.Random(seed).sample(range(len(pool)), size))
        return tuple(place for place in ordered if place in chosen)
    end, _, name = strategy.partition("_")
    if strategy not in STRATEGIES:
        raise LengthwiseError(f"strategy {strategy!r}: allowed are {', '.join(STRATEGIES)}")
    sign = 1 if end == "max" else -1

    def worth(places: tuple[int, ...]) -> float:
        if name == "diversity":
            return sign * _diversity(places, similarity)
        return sign * _MEASURES[name]([pool[place] for place in places])

    return max(combinations(ordered, size), key=worth)


def _diversity(places: Seq[int], similarity: Seq[Seq[float]] | None) -> float:
    if similarity is None:
        raise LengthwiseError("diversity needs the similarity of every two candidates")
    return 1 - fmean(similarity[one][other] for one, other in combinations(sorted(places), 2))


def _margin(chosen: Seq[Candidate]) -> float:
    pairs = zip(chosen, chosen[1:], strict=False)
    return fmean(better.quality - worse.quality for better, worse in pairs)


def _gap(chosen: Seq[Candidate]) -> float:
    return chosen[0].quality - chosen[-1].quality


def _surprise(chosen: Seq[Candidate]) -> float:
    return surprise([each.quality for each in chosen], [each.likelihood for each in chosen])


_MEASURES: dict[str, Callable[[Seq[Candidate]], float]] = {
    "margin": _margin,
    "gap": _gap,
    "surprise": _surprise,
    "quality": lambda chosen: fmean(each.quality for each in chosen),
    "likelihood": lambda chosen: fmean(each.likelihood for each in chosen),
    "length": lambda chosen: fmean(each.length for each in chosen),
    "density": lambda chosen: fmean(each.density for each in chosen),
    "beam": lambda chosen: fmean(each.beam for each in chosen),
}
STRATEGIES = (
    "random",
    *(f"{end}_{name}" for name in (*_MEASURES, "diversity") for end in ("max", "min")),
)


__all__ = [
    "LENGTH_PENALTY", "MARGIN", "SCALE", "SIZE", "STRATEGIES", "Candidate", "candidate_scores",
    "margin_rank_loss", "qualities", "select", "surprise",
]  # fmt: skip
