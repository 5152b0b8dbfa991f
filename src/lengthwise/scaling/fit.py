"""Constants for a law from rows, and how sure they are.

The objective is the Huber loss of the residuals, by default of log prediction less log observation
with delta 1e-3, as in Chinchilla. Beyond a tenth of a percent a row pulls with constant force, so
that a diverged run does not bend the curve. The search first levels every start with a wide delta,
then narrows it from the best of them. Intervals are percentiles over fits to resampled rows.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lengthwise.scaling.law import Array, Law, ScalingError, find_law, need_scipy

MOST_STARTS = 48
KEPT_STARTS = 4
Rows: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Objective:
    """Huber loss with `delta` (infinite: plain squares), on logarithms or on the values."""

    delta: float = 1e-3
    log: bool = True

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ScalingError(f"delta is {self.delta:g}; it must be above 0 (inf: plain squares)")


@dataclass(frozen=True)
class Fit:
    """Fitted constants with intervals, resampled draws, and the rows' ranges.

    `rms` and `worst` are of the residuals in the objective's space; `agreeing` counts the searches
    that ended within 1e-3 of the best objective, of `searches`.
    """

    law: str
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    level: float
    objective: Objective
    rows: int
    rms: float
    worst: float
    r2: float
    agreeing: int
    searches: int
    ranges: dict[str, tuple[float, float]]
    notes: tuple[str, ...] = ()
    draws: list[list[float]] = field(default_factory=list, repr=False)

    def to_json(self) -> str:
        """One JSON object; the draws come last."""
        record = asdict(self) | {"objective": {"delta": str(self.objective.delta)}}
        record["objective"]["log"] = self.objective.log
        return json.dumps(record)

    @classmethod
    def read(cls, path: Path) -> Fit:
        """Reads what `to_json` wrote.

        Args:
            path: of the file.

        Raises:
            ScalingError: for a file that holds anything else.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            record["objective"] = Objective(
                float(record["objective"]["delta"]), bool(record["objective"]["log"])
            )
            for key in ("intervals", "ranges"):
                record[key] = {name: (low, high) for name, (low, high) in record[key].items()}
            made = cls(**record | {"notes": tuple(record["notes"])})
            find_law(made.law).complete(made.values)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ScalingError(f"{path}: not a fit of lengthwise ({error})") from None
        return made


def fit_law(
    law: Law, columns: Mapping[str, Array], objective: Objective | None = None,
    bootstrap: int = 1000, level: float = 0.95, seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Fit:  # fmt: skip
    """Fits `law` to columns `[rows]` named as its inputs and output.

    Args:
        law: whose parameters are searched.
        columns: more rows than the law has parameters.
        objective: None is the Huber loss, on logarithms where the law allows them.
        bootstrap: resamples of the rows that the intervals are made of; 0 gives none.
        level: share of the resamples within an interval, above 0 and below 1.
        seed: of starts and resamples; the same one gives the same fit.
        progress: called with the resamples that are done, and with `bootstrap`.

    Returns:
        The constants, their percentile intervals, and how well the rows are met.

    Raises:
        ScalingError: where an argument does not suit the law, the rows do not determine the
            parameters, no search converged, or scipy is not installed.
    """
    objective = objective or Objective(log=law.logarithmic)
    if objective.log and not law.logarithmic:
        raise ScalingError(
            f"law {law.name} may predict values below 0, so its residuals are linear, not log"
        )
    if not 0 < level < 1:
        raise ScalingError(f"the level of the intervals is {level:g}; it lies between 0 and 1")
    _check(law, columns)
    need_scipy()
    problem = _Problem(law, columns, objective)
    starts = _starts(law, seed)
    best, agreeing = problem.search(starts)
    theta, notes = best.x, problem.notes(best.x)
    draws, dropped = problem.resample(theta, bootstrap, seed, progress)
    if dropped > bootstrap / 2:
        raise ScalingError(
            f"{dropped} of {bootstrap} resamples of the rows did not converge: the rows do not "
            f"determine the parameters of law {law.name}; give more rows, or --bootstrap 0"
        )
    if dropped:
        notes.append(f"{dropped} of {bootstrap} resamples did not converge and are left out")
    enough = round(2 / (1 - level))
    if 0 < bootstrap < enough:
        notes.append(
            f"{bootstrap} resamples are few for {level:.0%} intervals: take {enough} or more"
        )
    tails = (100 * (1 - level) / 2, 100 * (1 + level) / 2)
    spread = np.percentile(draws, tails, axis=0) if len(draws) else np.empty((2, 0))
    residuals = problem.residuals(theta)
    total = float(np.sum((problem.target - problem.target.mean()) ** 2))
    return Fit(
        law=law.name, values=problem.values(theta),
        intervals={n: (float(a), float(b)) for n, a, b in zip(law.names, *spread, strict=False)},
        level=level, objective=objective, rows=len(residuals),
        rms=math.sqrt(float(np.mean(residuals**2))), worst=float(np.max(np.abs(residuals))),
        r2=1 - float(np.sum(residuals**2)) / total if total else math.nan,
        agreeing=agreeing, searches=len(starts),
        ranges={n: (float(columns[n].min()), float(columns[n].max())) for n in law.inputs},
        notes=tuple(notes), draws=draws.tolist(),
    )  # fmt: skip


def _check(law: Law, columns: Mapping[str, Array]) -> None:
    rows = len(columns[law.output[0]])
    if rows <= len(law.names):
        raise ScalingError(
            f"law {law.name} has {len(law.names)} parameters ({', '.join(law.names)}) and needs "
            f"more rows than that; there are {rows}"
        )
    for name in (*law.inputs, law.output[0]):
        if np.ptp(columns[name]) == 0:
            raise ScalingError(
                f"{name} is {columns[name][0]:g} in every row; to fit law {law.name} it must vary"
            )


def _starts(law: Law, seed: int) -> list[Array]:
    grid = list(itertools.product(*(parameter.starts for parameter in law.parameters)))
    if len(grid) > MOST_STARTS:
        grid = random.Random(seed).sample(grid, MOST_STARTS)
    hidden = [parameter.positive for parameter in law.parameters]
    return [
        np.array([math.log(v) if log else v for v, log in zip(point, hidden, strict=True)])
        for point in grid
    ]


class _Problem:
    """Residuals of a law over rows as a function of theta: parameters, positive ones by their
    logarithm."""

    def __init__(self, law: Law, columns: Mapping[str, Array], objective: Objective) -> None:
        self.law, self.objective = law, objective
        self.inputs = {name: columns[name] for name in law.inputs}
        observed = columns[law.output[0]]
        self.target = np.log(observed) if objective.log else observed
        limits = [(p.low, p.high) for p in law.parameters]
        hidden = [p.positive for p in law.parameters]
        self.bounds = tuple(
            np.array([math.log(v) if log else v for v, log in zip(side, hidden, strict=True)])
            for side in zip(*limits, strict=True)
        )

    def values(self, theta: Array) -> dict[str, float]:
        pairs = zip(self.law.parameters, theta, strict=True)
        return {p.name: math.exp(v) if p.positive else float(v) for p, v in pairs}

    def residuals(self, theta: Array, rows: Rows | None = None) -> Array:
        inputs, target = self.inputs, self.target
        if rows is not None:
            inputs = {name: column[rows] for name, column in inputs.items()}
            target = target[rows]
        with np.errstate(all="ignore"):
            found = self.law.evaluate(inputs, self.values(theta), self.objective.log) - target
        # A search may step where the formula overflows; a large finite residual turns it back.
        return np.nan_to_num(found, nan=1e6, posinf=1e6, neginf=-1e6)

    def descend(
        self, theta: Array, delta: float, most: int, rows: Rows | None = None, fine: float = 1e-12
    ) -> Any:
        """One search of at most `most` steps, stopping when a step changes less than `fine`."""
        from scipy.optimize import least_squares

        inside = np.clip(theta, *(np.nextafter(b, s * np.inf) for b, s in
                                  zip(self.bounds, (1, -1), strict=True)))  # fmt: skip
        plain = math.isinf(delta)
        return least_squares(
            self.residuals, inside, bounds=self.bounds, x_scale="jac", max_nfev=most,
            ftol=fine, xtol=fine, gtol=fine, args=(rows,), loss="linear" if plain else "huber",
            f_scale=1.0 if plain else delta,
        )  # fmt: skip

    def search(self, starts: list[Array]) -> tuple[Any, int]:
        """The best end of all searches, and how many ended as well."""
        delta = self.objective.delta
        level = sorted((self.descend(s, max(delta, 0.1), 100, fine=1e-7) for s in starts),
                       key=lambda found: found.cost)  # fmt: skip
        ends = []
        for found in level[:KEPT_STARTS]:
            theta = found.x
            for wide in (30, 5):
                if math.isfinite(delta):
                    theta = self.descend(theta, delta * wide, 100, fine=1e-8).x
            ends.append(self.descend(theta, delta, 2000))
        ends = sorted((end for end in ends if end.success), key=lambda found: found.cost)
        if not ends:
            raise ScalingError(
                f"no search for the parameters of law {self.law.name} converged from "
                f"{len(starts)} starts; check the units of the columns, or give more rows"
            )
        near = ends[0].cost * (1 + 1e-3) + 1e-15
        at_level = sum(found.cost <= level[0].cost * (1 + 1e-3) + 1e-15 for found in level)
        return ends[0], int(max(at_level, sum(found.cost <= near for found in ends)))

    def notes(self, theta: Array) -> list[str]:
        """Parameters at a bound, and parameters that the rows cannot tell apart."""
        found = []
        low, high = self.bounds
        for parameter, value, a, b in zip(self.law.parameters, theta, low, high, strict=True):
            if min(value - a, b - value) < 1e-6 * max(1.0, abs(value)):
                shown = self.values(theta)[parameter.name]
                found.append(f"{parameter.name} = {shown:.3g} sits at the end of its range")
        steps = 1e-5 * np.maximum(1.0, np.abs(theta))
        change = np.stack([
            self.residuals(theta + step) - self.residuals(theta - step)
            for step in np.diag(steps)
        ])  # fmt: skip
        size = np.linalg.norm(change, axis=1, keepdims=True)
        singular = np.linalg.svd(change / np.where(size > 0, size, 1), compute_uv=False)
        if singular[-1] < 1e-5 * singular[0] or not size.all():
            found.append(
                "the rows hardly tell the parameters apart: values may move together without "
                "changing a prediction inside of the rows' range"
            )
        return found

    def resample(
        self, theta: Array, count: int, seed: int, progress: Callable[[int, int], None] | None
    ) -> tuple[Array, int]:
        """Values `[draws, parameters]` fitted to resampled rows, and how many did not converge."""
        rng = np.random.default_rng(seed)
        total, needed = len(self.target), len(theta)
        draws: list[list[float]] = []
        dropped = 0
        for done in range(count):
            rows = rng.integers(total, size=total)
            while len(np.unique(rows)) < needed:
                rows = rng.integers(total, size=total)
            wide = self.descend(theta, self.objective.delta * 5, 100, rows, fine=1e-6)
            end = self.descend(wide.x, self.objective.delta, 1000, rows, fine=1e-9)
            if end.success:
                draws.append(list(self.values(end.x).values()))
            else:
                dropped += 1
            if progress is not None:
                progress(done + 1, count)
        return np.array(draws).reshape(len(draws), needed), dropped
