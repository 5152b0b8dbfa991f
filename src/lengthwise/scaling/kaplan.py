"""The OpenAI forms in size, steps and batch, as "Unraveling the Mystery of Scaling Laws: Part I"
estimates them from models of 1M to 60M parameters.

They hold for a constant learning rate, one pass over the data, and N without embeddings. The report
stresses that its constants do not carry over to another tokenizer, corpus or context.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lengthwise._utils.papers import Paper
from lengthwise.scaling.law import Array, Constants, law, log_sum
from lengthwise.scaling.laws import LOSS, MEMORY, N, exponent, scale

UNRAVELING = Paper(
    "Unraveling the Mystery of Scaling Laws: Part I",
    "Su et al.",
    2024,
    arxiv="2403.06563",
)


@law(
    "converged",
    paper=UNRAVELING,
    inputs={"N": N + ", without embeddings"},
    output=LOSS,
    parameters=(scale("N_c", 1e8, 1e14, 1e20), exponent("alpha_N", 0.05, 0.3)),
    constants={"c4": Constants({"N_c": 1.5e14, "alpha_N": 0.076}, MEMORY)},
)
def converged(x: Any, p: Any) -> Array:
    """L(N) = (N_c / N)^alpha_N

    Loss at convergence on unlimited data, every token seen once.
    """
    return np.asarray(p.alpha_N * (math.log(p.N_c) - np.log(x.N)))


_STEPS = (
    scale("N_c", 1e8, 1e14), exponent("alpha_N", 0.05, 0.3),
    scale("S_c", 10.0, 3e3), exponent("alpha_S", 0.3, 0.8),
)  # fmt: skip


@law(
    "trajectory_min",
    paper=UNRAVELING,
    inputs={"N": N + ", without embeddings", "S_min": "steps at a batch far above critical"},
    output=LOSS,
    parameters=_STEPS,
    constants={
        "c4": Constants({"N_c": 1.5e14, "alpha_N": 0.076, "S_c": 2.6e3, "alpha_S": 0.67}, MEMORY)
    },
)
def trajectory_min(x: Any, p: Any) -> Array:
    """L(N, S_min) = (N_c / N)^alpha_N + (S_c / S_min)^alpha_S"""
    size = p.alpha_N * (math.log(p.N_c) - np.log(x.N))
    return log_sum(size, p.alpha_S * (math.log(p.S_c) - np.log(x.S_min)))


@law(
    "critical_batch",
    paper=UNRAVELING,
    inputs={"L": "loss reached, nats per token"},
    output=("B_crit", "critical batch, tokens"),
    parameters=(scale("B_star", 1e4, 1e8), exponent("alpha_B", 0.1, 0.5, low=1e-2)),
    constants={"c4": Constants({"B_star": 1.7e8, "alpha_B": 0.205}, MEMORY)},
)
def critical_batch(x: Any, p: Any) -> Array:
    """B_crit(L) = B_star / L^(1 / alpha_B)

    At this batch a loss takes twice the fewest steps and twice the fewest tokens.
    """
    return np.asarray(math.log(p.B_star) - np.log(x.L) / p.alpha_B)


@law(
    "trajectory",
    paper=UNRAVELING,
    inputs={"N": N + ", without embeddings", "S": "optimiser steps", "B": "tokens a batch"},
    output=LOSS,
    parameters=(*_STEPS, scale("B_star", 1e4, 1e8), exponent("alpha_B", 0.2, 0.5, low=1e-2)),
    constants={
        "c4": Constants(
            {"N_c": 1.5e14, "alpha_N": 0.076, "S_c": 2.6e3, "alpha_S": 0.67, "B_star": 1.7e8,
             "alpha_B": 0.205}, MEMORY,
        )
    },
)  # fmt: skip
def trajectory(x: Any, p: Any) -> Array:
    """L(N, S, B) = (N_c / N)^alpha_N + (S_c (1 + B_crit(L) / B) / S)^alpha_S

    Implicit in L through B_crit(L) = B_star / L^(1 / alpha_B). The right side less L falls and is
    convex in L, so that Newton's steps from the converged loss rise to the one root.
    """
    size = np.exp(p.alpha_N * (math.log(p.N_c) - np.log(x.N)))
    late = np.exp(p.alpha_S * (math.log(p.S_c) - np.log(x.S)))
    loss = size * np.ones_like(x.S * x.B)
    for _ in range(200):
        noise = p.B_star / x.B * loss ** (-1 / p.alpha_B)
        found = late * (1 + noise) ** p.alpha_S
        slope = -p.alpha_S / p.alpha_B * found * noise / (1 + noise) / loss - 1
        step = (size + found - loss) / slope
        loss = loss - step
        if np.all(np.abs(step) <= 1e-13 * loss):
            break
    return np.asarray(np.log(loss))
