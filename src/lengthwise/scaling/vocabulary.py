"""How large a vocabulary a model deserves: the three estimators of "Scaling Laws with Vocabulary:
Larger Models Deserve Larger Vocabularies" (Tao et al., 2024, arXiv 2407.13623).

Nnv are the parameters outside of the embedding, Nv = V d those of one embedding matrix (untied
models hold two, the paper counts one), d the width. The loss is unigram-normalised,
L_u = -mean log(p(w | context) / p_unigram(w)), hence negative and fair between vocabularies. The
data term counts tokens, not characters. All constants are of one English corpus and BPE.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lengthwise._utils.papers import Paper
from lengthwise.scaling.law import (
    Array,
    Constants,
    Parameter,
    ScalingError,
    Solver,
    law,
    need_scipy,
)
from lengthwise.scaling.laws import exponent, scale

PAPER = Paper(
    "Scaling Laws with Vocabulary: Larger Models Deserve Larger Vocabularies",
    "Tao et al.",
    2024,
    arxiv="2407.13623",
    venue="NeurIPS",
    code="https://github.com/sail-sg/scaling-with-vocab",
)
CODE = "in the paper's code"
NNV = "parameters outside of the embedding"
# The tokens-per-character curve has no data beyond this vocabulary.
LARGEST_V = 200_000
# Approach 1: Nnv = e^K C^0.5, the training-optimal budget of a size.
LOG_SIZE_FACTOR = -2.4846510161625193
ANCHOR = 33e6
WIDTHS = (
    (50e6, 512), (200e6, 768), (500e6, 1024), (1e9, 1536), (2e9, 2048), (5e9, 3200), (10e9, 4096),
    (20e9, 5120), (50e9, 6048), (100e9, 8192), (200e9, 12288), (500e9, 16384), (1e12, 20480),
)  # fmt: skip
_RANGES = {"Nnv": (3.3e7, 1.13e9), "V": (4096.0, 96256.0)}


def tokens_per_character(vocabulary: Any) -> Any:
    """f(V) = 0.00639222 ln^2 V - 0.15811069 ln V + 1.20470122, with V at most 200,000."""
    log = np.log(np.minimum(vocabulary, LARGEST_V))
    return 0.00639222 * log**2 - 0.15811069 * log + 1.20470122


def width(size: float) -> int:
    """The paper's d for a model of `size` parameters outside of the embedding."""
    return next((d for limit, d in WIDTHS if size <= limit), 24576)


def budget(size: float) -> float:
    """Training-optimal floating-point operations for a size, by approach 1."""
    return math.exp(2 * (math.log(size) - LOG_SIZE_FACTOR))


def cheapest_vocabulary(size: float, d: float) -> float:
    """Approach 2: the V at which d f(V) + (Nnv + d V) f'(V) = 0, the fewest operations a text."""
    need_scipy()
    from scipy.optimize import brentq

    def slope(log: float) -> float:
        change = (2 * 0.00639222 * log - 0.15811069) / math.exp(log)
        tokens = float(tokens_per_character(math.exp(log)))
        return d * tokens + (size + d * math.exp(log)) * change

    return math.exp(brentq(slope, math.log(64), math.log(LARGEST_V), xtol=1e-12))


def _width(at: Mapping[str, float]) -> float:
    return at["d"] if "d" in at else width(at["Nnv"])


def _least_loss(at: Mapping[str, float], p: Any) -> dict[str, float]:
    """The V at which dL_u/dV = 0 for D = C / (6 (Nnv + V d)), in the units of the formula."""
    need_scipy()
    from scipy.optimize import brentq

    d = _width(at)
    compute = at.get("C", budget(at["Nnv"]))
    size, share = at["Nnv"] / 1e6, d / 1e6

    def slope(log: float) -> float:
        """d L_u / d log V: what a larger vocabulary loses in tokens less what it gains in size."""
        embedding = share * math.exp(log)
        tokens = compute / 1e15 / (6 * (size + embedding))
        gained = p.alpha2 * p.A2 * embedding**-p.alpha2
        lost = p.beta * p.B * tokens**-p.beta * embedding / (size + embedding)
        return float(lost - gained)

    low, high = math.log(2), math.log(1e9)
    if slope(low) > 0 or slope(high) < 0:
        raise ScalingError(
            f"no vocabulary between 2 and 1e9 is best for Nnv = {at['Nnv']:g} and C = {compute:g} "
            "under these constants"
        )
    best = math.exp(brentq(slope, low, high, xtol=1e-12))
    return {"V": best, "Nv": best * d, "d": d, "C": compute}


_OPTIMUM = {"Nnv": NNV}
_WIDTH = {"d": "width (default: the paper's table by size)"}


@law(
    "vocabulary",
    paper=PAPER,
    inputs={"Nnv": NNV, "V": "vocabulary", "d": "width", "D": "tokens trained on"},
    output=("L_u", "unigram-normalised loss, nats per token, negative"),
    parameters=(
        scale("E", 3.0, 6.0), scale("A1", 0.5, 3.0, 50.0), scale("A2", 0.1, 1.0),
        scale("B", 1.0, 5.0), exponent("alpha2", 0.3, 0.7), exponent("beta", 0.2, 0.5),
    ),
    constants={
        "approach3": Constants(
            {"E": 5.5327846803337435, "A1": 1.8313851559554126, "A2": 0.19584238398665638,
             "B": 2.1241123120064955, "alpha2": 0.6707374679896795, "beta": 0.44660634152009615},
            CODE, _RANGES,
        )
    },
    logarithmic=False,
    solver=Solver(
        "the vocabulary of least L_u (approach 3)", _OPTIMUM, _least_loss,
        {**_WIDTH, "C": "floating-point operations (default: training-optimal by approach 1)"},
    ),
)  # fmt: skip
def vocabulary(x: Any, p: Any) -> Array:
    """L_u = -E + A1 / (Nnv/1e6)^beta + A2 / (V d/1e6)^alpha2 + B / (D/1e9)^beta

    Size and data share one exponent. Fitted by Huber loss (delta 1e-3) on L_u itself, since it is
    negative; runs under 2.18e17 operations are left out by the paper.
    """
    size = p.A1 * (x.Nnv / 1e6) ** -p.beta
    embedding = p.A2 * (x.V * x.d / 1e6) ** -p.alpha2
    return np.asarray(-p.E + size + embedding + p.B * (x.D / 1e9) ** -p.beta)


def _by_compute(at: Mapping[str, float], p: Any) -> dict[str, float]:
    compute = at.get("C", budget(at["Nnv"]))
    found = math.exp(p.K + p.alpha * math.log(compute))
    return {"V": found / _width(at), "Nv": found, "d": _width(at), "C": compute}


@law(
    "vocabulary_isoflop",
    paper=PAPER,
    inputs={"C": "floating-point operations of training"},
    output=("Nv", "embedding parameters of the run of least L_u at that compute"),
    parameters=(Parameter("K", (-10.0, 0.0), -100, 100), exponent("alpha", 0.3, 0.5)),
    constants={
        "approach1": Constants(
            {"K": -1.589031299255507, "alpha": 0.4163622634135234}, CODE, {"C": (2.2e17, 4.4e20)}
        )
    },
    solver=Solver(
        "the vocabulary by approach 1", _OPTIMUM, _by_compute,
        {**_WIDTH, "C": "floating-point operations (default: training-optimal)"},
    ),
)  # fmt: skip
def vocabulary_isoflop(x: Any, p: Any) -> Array:
    """Nv = e^K C^alpha"""
    return np.asarray(p.K + p.alpha * np.log(x.C))


def _by_anchor(at: Mapping[str, float], p: Any) -> dict[str, float]:
    found = p.Nv0 * (at["Nnv"] / ANCHOR) ** p.gamma
    return {"V": found / _width(at), "Nv": found, "d": _width(at)}


@law(
    "vocabulary_derivative",
    paper=PAPER,
    inputs={"Nnv": NNV},
    output=("Nv", "embedding parameters"),
    parameters=(scale("Nv0", 1e5, 3e6), exponent("gamma", 0.5, 0.9)),
    constants={
        "approach2": Constants(
            {"Nv0": 3_145_728, "gamma": 0.8353974035228025}, CODE + "; anchor V 6144, d 512",
            {"Nnv": (3.3e7, 2.87e9)},
        )
    },
    solver=Solver("the vocabulary by approach 2", _OPTIMUM, _by_anchor, _WIDTH),
)  # fmt: skip
def vocabulary_derivative(x: Any, p: Any) -> Array:
    """Nv = Nv0 (Nnv / 33e6)^gamma

    gamma is fitted to the vocabularies at which a text costs the fewest operations
    (`cheapest_vocabulary`); only the anchor Nv0 is measured.
    """
    return np.asarray(math.log(p.Nv0) + p.gamma * np.log(x.Nnv / ANCHOR))
