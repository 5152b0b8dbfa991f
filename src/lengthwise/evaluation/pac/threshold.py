"""How far a calibration may be believed: the PAC bound of arXiv:2302.08703.

Of n examples, drawn like those to come, a threshold errs on h. If its true rate of errors were
above epsilon, so few would be seen with a probability of at most BinomialCDF(h; n, epsilon). So

    k = the most h with BinomialCDF(h; n, epsilon) <= delta

and the least strict threshold with at most k errors has, with a probability of at least 1 - delta
over the draw of the examples, a rate of at most epsilon. That holds because errors never become
fewer when a threshold becomes less strict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq

from lengthwise.errors import LengthwiseError


def allowed_errors(count: int, epsilon: float, delta: float) -> int:
    """The most errors that so many examples may show.

    Args:
        count: of the examples.
        epsilon: the rate of errors that is allowed, between 0 and 1.
        delta: the probability that a calibration allows more, between 0 and 1.

    Raises:
        LengthwiseError: for numbers outside these, and where there are too few examples.
    """
    for name, given in (("epsilon", epsilon), ("delta", delta)):
        if not 0 < given < 1:
            raise LengthwiseError(f"{name}={given}: allowed is between 0 and 1, both excluded")
    below, found = 0.0, -1
    for errors in range(count + 1):
        below += math.exp(
            math.lgamma(count + 1) - math.lgamma(errors + 1) - math.lgamma(count - errors + 1)
            + errors * math.log(epsilon) + (count - errors) * math.log1p(-epsilon)
        )  # fmt: skip
        if below > delta:
            break
        found = errors
    if found < 0:
        needed = math.ceil(math.log(delta) / math.log1p(-epsilon))
        raise LengthwiseError(
            f"{count} examples tell nothing of a rate of {epsilon:g} at a confidence of "
            f"{1 - delta:g}; give at least {needed}, or a larger epsilon or delta"
        )
    return found


def choose(first_errors: Seq[int], thresholds: int, most: int) -> tuple[int, int]:
    """The least strict threshold with at most so many errors.

    Args:
        first_errors: of each example the first threshold that errs, strictest first; `thresholds`
            where none does.
        thresholds: how many there are.
        most: errors that are allowed.

    Returns:
        Its number and its errors; -1 and 0 where even the strictest errs too often, so that nothing
            may be kept.
    """
    chosen, errors = -1, 0
    for number in range(thresholds):
        found = sum(first <= number for first in first_errors)
        if found > most:
            break
        chosen, errors = number, found
    return chosen, errors


__all__ = ["allowed_errors", "choose"]
