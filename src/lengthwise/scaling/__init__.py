"""Scaling laws: fit one to runs, see how sure the fit is, and predict the next run.

    rows of runs --data--> Table --fit--> Fit: constants, intervals --predict--> the next run

A law is a formula on named columns. `laws`, `kaplan` and `vocabulary` hold the published ones with
the constants that their papers printed. `checks` recomputes what the papers claim.
"""

from __future__ import annotations

from lengthwise.scaling.data import Table, read_table
from lengthwise.scaling.fit import Fit, Objective, fit_law
from lengthwise.scaling.law import LAWS, Constants, Law, Parameter, ScalingError, find_law
from lengthwise.scaling.predict import Prediction, predict

__all__ = [
    "LAWS",
    "Constants",
    "Fit",
    "Law",
    "Objective",
    "Parameter",
    "Prediction",
    "ScalingError",
    "Table",
    "find_law",
    "fit_law",
    "predict",
    "read_table",
]
