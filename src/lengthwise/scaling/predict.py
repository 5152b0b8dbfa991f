"""A law's prediction at named inputs, with an interval where draws exist, and a warning wherever an
input lies outside of what the constants were fitted on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from lengthwise._utils.suggestions import hint
from lengthwise.scaling.fit import Fit
from lengthwise.scaling.law import Array, Law, ScalingError


@dataclass(frozen=True)
class Prediction:
    """The value, its interval (None without draws), and what is doubtful about it."""

    value: float
    interval: tuple[float, float] | None
    warnings: tuple[str, ...]


def predict(
    law: Law,
    values: Mapping[str, float],
    at: Mapping[str, float],
    ranges: Mapping[str, tuple[float, float]] | None = None,
    fit: Fit | None = None,
) -> Prediction:
    """Predicts at one point; with `fit`, its draws give the interval and its rows the range.

    Args:
        law: that predicts.
        values: all its parameters by name.
        at: one value above 0 for each of its inputs.
        ranges: lowest and highest by input that the values were fitted on; None is unknown.
        fit: where the values come from; its ranges are used instead.

    Raises:
        ScalingError: where a name or a value is refused, and where no finite number comes out.
    """
    check_names(f"law {law.name}", at, law.inputs)
    known = ranges if fit is None else fit.ranges
    warnings = outside(at, known or {})
    if not known:
        warnings.append("the range that these constants were fitted on is not known")
    inputs = {name: np.array([float(at[name])]) for name in law.inputs}
    with np.errstate(all="ignore"):
        value = float(law.evaluate(inputs, law.complete(values), log=False)[0])
    if not math.isfinite(value):
        raise ScalingError(f"law {law.name} gives {value:g} there: too far outside of its range")
    interval = None
    if fit is not None and fit.draws:
        found = over_draws(law, fit, inputs)
        interval = (float(found[0, 0]), float(found[1, 0]))
    return Prediction(value, interval, tuple(warnings))


def over_draws(law: Law, fit: Fit, inputs: Mapping[str, Array]) -> Array:
    """Lower and upper ends `[2, points]` of the fit's interval at inputs `[points]`."""
    found = [
        law.evaluate(inputs, dict(zip(law.names, draw, strict=True)), log=False)
        for draw in fit.draws
    ]
    return np.percentile(found, (50 * (1 - fit.level), 50 * (1 + fit.level)), axis=0)


def check_names(
    what: str, at: Mapping[str, float], needs: Mapping[str, str], optional: Mapping[str, str] = {}
) -> None:
    """Refuses inputs that are unknown, missing, or not above 0."""
    allowed = {**needs, **optional}
    for name, value in at.items():
        if name not in allowed:
            raise ScalingError(f"{what} takes no {name!r}{hint(name, allowed)}")
        if not (math.isfinite(value) and value > 0):
            raise ScalingError(f"{name} is {value:g}; it must be finite and above 0")
    missing = [name for name in needs if name not in at]
    if missing:
        raise ScalingError(f"{what} needs {', '.join(f'{n} ({needs[n]})' for n in missing)}")


def outside(at: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]) -> list[str]:
    """One warning for each input beyond its fitted range."""
    found = []
    for name, (low, high) in ranges.items():
        value = at.get(name)
        if value is not None and value > high * (1 + 1e-9):
            found.append(f"{name} = {value:g} is {value / high:.3g} times the largest fitted, "
                         f"{high:g}: an extrapolation")  # fmt: skip
        elif value is not None and value < low * (1 - 1e-9):
            found.append(f"{name} = {value:g} is {low / value:.3g} times below the smallest "
                         f"fitted, {low:g}: an extrapolation")  # fmt: skip
    return found


def solve(law: Law, values: Mapping[str, float], at: Mapping[str, float]) -> dict[str, float]:
    """Answers the question that the law's solver stands for, such as the best size for a budget."""
    if law.solver is None:
        raise ScalingError(f"law {law.name} answers no question beyond its prediction; use predict")
    check_names(f"solving law {law.name}", at, law.solver.needs, law.solver.optional)
    law.check_values(values)
    constants: Any = SimpleNamespace(**values)
    try:
        found = law.solver.run(at, constants)
    except AttributeError:
        law.complete(values)
        raise
    except ArithmeticError:
        found = {}
    # A root of a negative number is complex in Python, not an error.
    if not found or any(isinstance(v, complex) or not math.isfinite(v) for v in found.values()):
        raise ScalingError(f"law {law.name} has no answer for these inputs and constants")
    return found
