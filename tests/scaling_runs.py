"""Runs that follow a law, for the tests of scaling."""

from __future__ import annotations

import numpy as np

from lengthwise.scaling import find_law

TRUE = {"E": 1.8, "A": 480.0, "B": 2000.0, "alpha": 0.35, "beta": 0.37}
Columns = dict[str, np.ndarray]


def runs(rows: int = 60, noise: float = 3e-3, outliers: int = 0, seed: int = 1) -> Columns:
    """Runs that follow chinchilla with the constants TRUE, some of them diverged."""
    rng = np.random.default_rng(seed)
    size, tokens = 10 ** rng.uniform(7, 10, rows), 10 ** rng.uniform(9, 11.5, rows)
    columns = {"N": size, "D": tokens}
    loss = find_law("chinchilla").evaluate(columns, TRUE, log=False)
    loss = loss * np.exp(noise * rng.standard_normal(rows))
    loss[:outliers] *= rng.uniform(1.1, 1.5, outliers)
    return columns | {"L": loss}
