"""Loss and error against size, data, compute, bits and attacked positions, as published.

Names and units are the papers': N parameters, D tokens, C = 6ND floating-point operations, S
optimiser steps, B tokens a batch, L nats per token. Constants marked "from memory" could not be
read in the paper here: check them before relying on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lengthwise._utils.papers import Paper
from lengthwise.scaling.law import Array, Constants, Parameter, ScalingError, Solver, law, log_sum

N = "parameters of the model"
D = "tokens trained on"
LOSS = ("L", "validation loss, nats per token")
OVERTRAINING = Paper(
    "Language models scale reliably with over-training and on downstream tasks",
    "Gadre et al.",
    2024,
    arxiv="2403.08540",
    code="https://github.com/mlfoundations/scaling",
)
HESTNESS = Paper(
    "Deep Learning Scaling is Predictable, Empirically",
    "Hestness et al.",
    2017,
    arxiv="1712.00409",
)
MEMORY = "from memory, not read in the paper"


def scale(name: str, *starts: float) -> Parameter:
    """A positive factor, bounded only so that its logarithm stays finite."""
    return Parameter(name, starts, 1e-30, 1e40, positive=True)


def floor(name: str = "E") -> Parameter:
    """An irreducible term; its lower bound is as good as zero for a loss."""
    return Parameter(name, (0.1, 1.5), 1e-6, 1e3, positive=True)


def exponent(name: str, *starts: float, low: float = 0.0, high: float = 3.0) -> Parameter:
    return Parameter(name, starts, low, high)


_CHINCHILLA = {"N": (7e7, 1.6e10), "D": (5e9, 5e11)}


def _compute_optimal(at: Mapping[str, float], p: Any) -> dict[str, float]:
    a = p.beta / (p.alpha + p.beta)
    ratio = (p.alpha * p.A / (p.beta * p.B)) ** (1 / (p.alpha + p.beta))
    size = ratio * (at["C"] / 6) ** a
    tokens = at["C"] / 6 / size
    loss = p.E + p.A * size**-p.alpha + p.B * tokens**-p.beta
    return {"N": size, "D": tokens, "L": loss, "a": a, "b": 1 - a}


@law(
    "chinchilla",
    paper=Paper(
        "Training Compute-Optimal Large Language Models",
        "Hoffmann et al.",
        2022,
        arxiv="2203.15556",
        venue="NeurIPS",
    ),
    inputs={"N": N, "D": D},
    output=LOSS,
    parameters=(
        floor(), scale("A", 1.0, 4e2, 2e4), scale("B", 1.0, 4e2, 2e4),
        exponent("alpha", 0.2, 0.5), exponent("beta", 0.2, 0.5),
    ),
    constants={
        "hoffmann": Constants(
            {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28},
            "printed in the paper (rounded)", _CHINCHILLA,
        ),
        "hoffmann_tex": Constants(
            {"E": 1.6934, "A": 406.4, "B": 410.7, "alpha": 0.3392, "beta": 0.2849},
            "the paper's TeX source, as quoted by arXiv 2404.10102", _CHINCHILLA,
        ),
        "besiroglu": Constants(
            {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658},
            "printed in Chinchilla Scaling: A replication attempt (arXiv 2404.10102)",
            _CHINCHILLA,
        ),
    },
    solver=Solver(
        "the size and tokens of least loss for a compute budget, and the exponents a and b of "
        "N ~ C^a, D ~ C^b", {"C": "6ND, floating-point operations"}, _compute_optimal,
    ),
)  # fmt: skip
def chinchilla(x: Any, p: Any) -> Array:
    """L(N, D) = E + A / N^alpha + B / D^beta

    Fitted in the paper by Huber loss (delta 1e-3) on log L from a grid of starts; its printed
    constants are rounded enough to move predictions, and the replication's differ.
    """
    size = math.log(p.A) - p.alpha * np.log(x.N)
    data = math.log(p.B) - p.beta * np.log(x.D)
    return log_sum(math.log(p.E), size, data)


def _ray_optimum(at: Mapping[str, float], p: Any) -> dict[str, float]:
    multiplier = (p.b / p.a) ** (1 / (2 * p.eta))
    size = math.sqrt(at["C"] / 6 / multiplier)
    loss = p.E + 2 * math.sqrt(p.a * p.b) * at["C"] ** -p.eta
    return {"M": multiplier, "N": size, "D": multiplier * size, "L": loss}


_RAYS = {"N": (1.06e7, 4.12e8), "M": (20.0, 320.0)}
_REFIT = "the paper's procedure on its released runs, C4 validation loss"


@law(
    "over_training",
    paper=OVERTRAINING,
    inputs={"N": N + ", embeddings included", "M": "tokens per parameter, D / N"},
    output=LOSS,
    parameters=(
        floor(), scale("a", 10.0, 1e2, 1e3), scale("b", 10.0, 1e2, 1e3),
        exponent("eta", 0.05, 0.15, 0.3, low=1e-3, high=1.5),
    ),
    constants={
        name: Constants(dict(zip(("E", "a", "b", "eta"), values, strict=True)), _REFIT, _RAYS)
        for name, values in (
            ("c4", (1.50826, 141.277, 189.516, 0.121236)),
            ("redpajama", (1.83665, 212.236, 366.687, 0.136425)),
            ("refinedweb", (1.73446, 157.116, 246.207, 0.127197)),
        )
    },
    solver=Solver(
        "the tokens per parameter of least loss for a compute budget",
        {"C": "6ND, floating-point operations"}, _ray_optimum,
    ),
)  # fmt: skip
def over_training(x: Any, p: Any) -> Array:
    """L(C, M) = E + (a M^eta + b M^-eta) C^-eta,  C = 6 N^2 M

    Every ray of constant M is a power law in compute with the same exponent. It is chinchilla with
    both exponents 2 eta: A = a 6^-eta, B = b 6^-eta. The paper fits plain squares of L
    (--residual linear --delta inf) on five runs.
    """
    compute = np.log(6.0) + 2 * np.log(x.N) + np.log(x.M)
    size = math.log(p.a) + p.eta * np.log(x.M)
    data = math.log(p.b) - p.eta * np.log(x.M)
    return log_sum(math.log(p.E), log_sum(size, data) - p.eta * compute)


@law(
    "downstream",
    paper=OVERTRAINING,
    inputs={"L": "validation loss, nats per token"},
    output=("Err", "mean top-1 error of the tasks, 0 to 1"),
    parameters=(
        Parameter("epsilon", (0.6, 0.9), 0.0, 1.0), scale("k", 0.5, 2.0, 20.0),
        exponent("gamma", 0.3, 0.8, 2.0, low=1e-3, high=10.0),
    ),
    constants={
        name: Constants(dict(zip(("epsilon", "k", "gamma"), values, strict=True)), _REFIT)
        for name, values in (
            ("c4", (0.849742, 2.0789, 0.756119)),
            ("redpajama", (0.856992, 2.20649, 0.714591)),
            ("refinedweb", (0.865279, 2.21482, 0.707049)),
        )
    },
    logarithmic=False,
)  # fmt: skip
def downstream(x: Any, p: Any) -> Array:
    """Err(L) = epsilon - k exp(-gamma L)

    Holds for the mean over tasks on which a small model already beats chance. Fitted by the
    paper's code as plain squares.
    """
    return np.asarray(p.epsilon - p.k * np.exp(-p.gamma * x.L))


def _exponent_only(value: float) -> Constants:
    return Constants({"beta_g": value}, MEMORY + "; the factor alpha depends on the setup")


@law(
    "learning_curve",
    paper=HESTNESS,
    inputs={"m": "training samples"},
    output=("error", "generalisation error or loss"),
    parameters=(
        scale("alpha", 1.0, 10.0, 1e3), exponent("beta_g", -0.1, -0.3, low=-2.0, high=0.0),
        Parameter("gamma", (1e-2, 1.0), 1e-6, 1e3, positive=True),
    ),
    constants={
        "translation": _exponent_only(-0.128), "word_lm_lstm": _exponent_only(-0.066),
        "word_lm_rhn": _exponent_only(-0.070), "character_lm": _exponent_only(-0.094),
        "imagenet_top1": _exponent_only(-0.309), "imagenet_top5": _exponent_only(-0.488),
        "imagenet_cross_entropy": _exponent_only(-0.35), "speech_ds2": _exponent_only(-0.299),
        "speech_attention": _exponent_only(-0.296),
    },
)  # fmt: skip
def learning_curve(x: Any, p: Any) -> Array:
    """error(m) = alpha m^beta_g + gamma

    Best model size at each training set size m; at one fixed size the curve flattens for lack of
    capacity, not of data. The exponents given leave gamma out (pure power-law region).
    """
    return log_sum(math.log(p.alpha) + p.beta_g * np.log(x.m), math.log(p.gamma))


@law(
    "best_size",
    paper=HESTNESS,
    inputs={"m": "training samples"},
    output=("s", "parameters of the best model"),
    parameters=(scale("alpha", 1.0, 1e3), exponent("beta_p", 0.5, 0.8)),
    constants={
        "lowest": Constants({"beta_p": 0.57}, MEMORY), "highest": Constants({"beta_p": 0.9}, MEMORY)
    },
)  # fmt: skip
def best_size(x: Any, p: Any) -> Array:
    """s(m) = alpha m^beta_p"""
    return np.asarray(math.log(p.alpha) + p.beta_p * np.log(x.m))


def _split(at: Mapping[str, float], p: Any) -> dict[str, float]:
    share = p.p_e / (p.p_e + p.p_d)
    found = {"N_e": share * at["N"], "N_d": (1 - share) * at["N"], "exponent": -(p.p_e + p.p_d)}
    return found


@law(
    "encoder_decoder",
    paper=Paper(
        "Scaling Laws for Neural Machine Translation",
        "Ghorbani et al.",
        2022,
        arxiv="2109.07740",
        venue="ICLR",
    ),
    inputs={"N_e": "encoder parameters, without embeddings",
            "N_d": "decoder parameters, without embeddings"},
    output=("L", "test loss, nats per token"),
    parameters=(
        scale("alpha", 1.0, 1e2, 1e4), exponent("p_e", 0.1, 0.4), exponent("p_d", 0.1, 0.4),
        floor("L_inf"),
    ),
    constants={"en_de": Constants({"p_e": 0.18, "p_d": 0.31}, MEMORY + ", roughly")},
    solver=Solver(
        "the best split of a number of parameters, and the exponent of L - L_inf along it",
        {"N": "encoder and decoder parameters together"}, _split,
    ),
)  # fmt: skip
def encoder_decoder(x: Any, p: Any) -> Array:
    """L(N_e, N_d) = alpha N_e^-p_e N_d^-p_d + L_inf

    The paper writes sizes as shares of its 6-layer baseline; give them so, and alpha is the
    paper's. The exponents do not depend on it.
    """
    fall = math.log(p.alpha) - p.p_e * np.log(x.N_e) - p.p_d * np.log(x.N_d)
    return log_sum(fall, math.log(p.L_inf))


def _tokens_until(at: Mapping[str, float], p: Any) -> dict[str, float]:
    power = at["QiD"] * at["N"] ** p.alpha * at["P"] ** p.gamma / p.k
    return {"D": power ** (1 / p.beta)}


@law(
    "low_bit",
    paper=Paper(
        "Low-Bit Quantization Favors Undertrained LLMs: Scaling Laws for Quantized LLMs with "
        "100T Training Tokens",
        "Ouyang et al.",
        2024,
        arxiv="2411.17691",
    ),
    inputs={"N": N + ", without embeddings", "D": D, "P": "bits of a quantised weight"},
    output=("QiD", "rise of the loss by post-training quantisation, nats per token"),
    parameters=(
        scale("k", 1e-3, 1.0), exponent("beta", 0.3, 0.8), exponent("alpha", 0.2, 0.5),
        exponent("gamma", 2.0, 5.0, high=20.0),
    ),
    constants={
        "gptq": Constants(
            {"k": 0.017, "beta": 0.5251, "alpha": 0.2261, "gamma": 5.4967},
            "printed (read in a secondary text): GPTQ on Pythia",
            {"N": (1.6e8, 1.2e10), "D": (1e9, 2.06e11), "P": (2, 4)},
        )
    },
    solver=Solver(
        "the tokens at which quantisation costs that much",
        {"N": N, "P": "bits", "QiD": "rise of the loss"}, _tokens_until,
    ),
)  # fmt: skip
def low_bit(x: Any, p: Any) -> Array:
    """QiD(N, D, P) = k D^beta / (N^alpha P^gamma)

    Vanishes for large N, small D and many bits. At 2 bits and far beyond 1e12 tokens it predicts
    rises that no model shows; other quantisers have other constants.
    """
    size = p.alpha * np.log(x.N) + p.gamma * np.log(x.P)
    return np.asarray(math.log(p.k) + p.beta * np.log(x.D) - size)


def _resistance(at: Mapping[str, float], p: Any) -> dict[str, float]:
    if at["V"] <= 1:
        raise ScalingError(f"a vocabulary has at least 2 entries, not V = {at['V']:g}")
    return {"chi": at["d"] * at.get("p", 16.0) / (p.kappa * math.log2(at["V"]))}


@law(
    "activation_attack",
    paper=Paper(
        "Scaling Laws for Adversarial Attacks on Language Model Activations",
        "Fort",
        2023,
        arxiv="2312.02780",
    ),
    inputs={"a": "positions whose activations are controlled"},
    output=("t_max", "tokens that can be forced, half of them right"),
    parameters=(scale("kappa", 1.0, 30.0, 500.0),),
    constants={
        "d512": Constants({"kappa": 24.2}, MEMORY + ": the model with d 512, V 50,304")
    },
    solver=Solver(
        "attack resistance chi = d p / (kappa log2 V): bits controlled per bit forced",
        {"d": "width of the activations", "V": "vocabulary"}, _resistance,
        {"p": "bits of an activation (16)"},
    ),
)  # fmt: skip
def activation_attack(x: Any, p: Any) -> Array:
    """t_max(a) = kappa a

    Targets are random tokens; natural text inflates t_max.
    """
    return np.asarray(math.log(p.kappa) + np.log(x.a))
