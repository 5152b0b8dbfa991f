"""Scaling laws: fit one to runs, see how sure the fit is, and predict the next run.

    data (your runs) --> fit --> constants, with their spread --> predict, plot
                          ^
    law: a formula on named columns <-- laws, kaplan, vocabulary (as published)

`fit` finds constants for your own runs. `checks` recomputes what the papers claim from the
constants that they printed.
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
