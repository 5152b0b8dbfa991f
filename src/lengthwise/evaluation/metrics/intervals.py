"""How sure a figure is: intervals of shares, errors of means, and the curve with its band."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from lengthwise.evaluation.tasks.probes import position_bins

# 95 of 100 such intervals hold what is estimated.
Z = 1.96


def wilson(hits: int, n: int, z: float = Z) -> tuple[float, float]:
    """Wilson's interval of a share of `hits` in `n`.

    Its centre is (p + z^2/2n) / (1 + z^2/n).
    Half its width is z sqrt(p(1-p)/n + z^2/4n^2) / (1 + z^2/n).
    """
    share, square = hits / n, z * z / n
    half = z * math.sqrt(share * (1 - share) / n + square / (4 * n)) / (1 + square)
    centre = (share + square / 2) / (1 + square)
    # At the ends the sums are 0 and 1 but for rounding.
    return (0.0 if hits == 0 else centre - half), (1.0 if hits == n else centre + half)


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean of values; None for fewer than two, or where one is infinite."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    return stdev(values) / math.sqrt(len(values))


def outside(planted: Sequence[tuple[int, int]], length: int) -> list[bool]:
    """For every position whether its token is the document's own, predicted from the document: not
    so for what is planted and for the token after it."""
    own = [True] * length
    for start, stop in planted:
        for place in range(start, min(stop + 1, length)):
            own[place] = False
    return own


def curve(
    losses: Mapping[int, float], full: Mapping[int, float] | None, length: int
) -> tuple[dict[str, Any], ...]:
    """Losses by position, a bin at a time, each with its number of tokens and its band.

    losses: nats by position.
    full: those of full attention, of the same tokens. Where they are given, what a recipe loses
        over them is averaged token by token, so that how hard the text is falls out of it.
    length: of the text, in tokens.

    The fields of a bin are those of `CompareRow.loss_bins`.
    """
    bins = []
    for start, stop in position_bins(length):
        inside = [place for place in range(start, stop) if place in losses]
        if not inside:
            continue
        values = [losses[place] for place in inside]
        over = [losses[place] - full[place] for place in inside] if full is not None else []
        finite = bool(over) and all(map(math.isfinite, over))
        bins.append(
            {
                "start": start, "stop": stop, "n": len(values), "mean": fmean(values),
                "error": standard_error(values), "over_full": fmean(over) if finite else None,
                "over_full_error": standard_error(over) if finite else None,
            }
        )  # fmt: skip
    return tuple(bins)
