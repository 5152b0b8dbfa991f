"""One number of many scores, where a benchmark takes more than a mean.

    geometric_mean    of ROUGE's kinds: L-Eval (An and others, 2023, arXiv:2307.11088)
    weighted_mean     over lengths: RULER (Hsieh and others, 2024, arXiv:2404.06654)
    effective_length  of a model, by RULER
    judged_f1         of a summary's key points: HELMET (Yen and others, 2024, arXiv:2410.02694)
    pass_at_k         of many programs: Chen and others, 2021, arXiv:2107.03374

Scores are shares from 0 to 1 unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence as Seq

from lengthwise.errors import LengthwiseError

# Llama-2-7B at 4k tokens, as a share: what a length must reach to count as effective.
RULER_THRESHOLD = 0.856


def geometric_mean(values: Seq[float]) -> float:
    """What L-Eval (arXiv:2307.11088) reports of rouge1, rouge2 and rougeL, each a mean of its own.

    Args:
        values: at least one, none negative.

    Returns:
        The root of their product.
    """
    return math.prod(values) ** (1 / len(values))


def weighted_mean(scores: Seq[float], *, rising: bool = True) -> float:
    """A mean whose weights rise or fall by one a length: RULER (arXiv:2404.06654).

    Args:
        scores: from the shortest length to the longest, at least one.
        rising: long lengths weigh most; without, short ones.

    Returns:
        The mean.
    """
    weights = range(1, len(scores) + 1) if rising else range(len(scores), 0, -1)
    total = sum(weight * score for weight, score in zip(weights, scores, strict=True))
    return total / sum(weights)


def effective_length(
    scores: Mapping[int, float], *, threshold: float = RULER_THRESHOLD
) -> int | None:
    """The longest length up to which all scores are above a threshold: RULER (arXiv:2404.06654).

    Args:
        scores: by length.
        threshold: a share; the paper's is that of Llama-2-7B at 4k tokens.

    Returns:
        The length; None where the shortest falls short already.
    """
    longest = None
    for length in sorted(scores):
        if scores[length] <= threshold:
            break
        longest = length
    return longest


def judged_f1(recall: float, precision: float, fluency: float = 1.0) -> float:
    """F1 of what a judge found of a summary: HELMET (arXiv:2410.02694).

    Args:
        recall: the share of the reference's key points that the summary supports.
        precision: the share of its sentences that the reference supports.
        fluency: 0 or 1.

    Returns:
        0 to 1.
    """
    total = recall + precision
    return fluency * 2 * recall * precision / total if total else 0.0


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The chance that one of k samples is right: Chen and others, 2021, arXiv:2107.03374.

    It is 1 - C(n - c, k) / C(n, k), which has no bias; 1 - (1 - c/n)^k has one.

    Args:
        samples: n, how many were drawn.
        right: c, how many passed their tests.
        k: at most n.

    Returns:
        0 to 1.

    Raises:
        LengthwiseError: for k or c beyond n.
    """
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise LengthwiseError(f"pass@{k} of {samples} samples, {right} right: k is 1 to {samples}")
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


__all__ = [
    "RULER_THRESHOLD", "effective_length", "geometric_mean", "judged_f1", "pass_at_k",
    "weighted_mean",
]  # fmt: skip
