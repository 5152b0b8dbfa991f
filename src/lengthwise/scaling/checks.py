"""What the papers claim beside what their constants give: `lengthwise scaling check`.

Only figures that follow from a law are here. Where the exponents alone were published
(learning_curve, best_size) or the constants come from memory (converged, trajectory), there is
nothing to recompute but identities, which the tests hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from lengthwise.scaling import vocabulary
from lengthwise.scaling.law import find_law, need_scipy
from lengthwise.scaling.predict import predict, solve

_CONSTANTS = "its constants"
_ROUNDED = "alpha and beta are rounded"


@dataclass(frozen=True)
class Check:
    """A printed figure, what recomputes it, and how far apart they may be (relative).

    `source` tells a figure of the paper from one that others computed from its constants, or that
    is given from memory.
    """

    law: str
    claim: str
    printed: float
    recompute: Callable[[], float]
    tolerance: float
    source: str = "paper"
    remark: str = ""

    @property
    def agrees(self) -> bool:
        return abs(self.recompute() / self.printed - 1) <= self.tolerance

    def row(self) -> tuple[str, ...]:
        """The cells of the table."""
        found = self.recompute()
        off = abs(found / self.printed - 1)
        verdict = "agrees" if self.agrees else f"off by {off:.0%}"
        if self.remark:
            verdict += f": {self.remark}"
        printed, again = _short(self.printed), _short(found)
        return self.law, self.claim, printed, self.source, again, verdict


def _short(value: float) -> str:
    return f"{value:,.0f}" if 1e3 <= value < 1e6 else f"{value:.4g}".replace("e+", "e")


def _solve(law: str, answer: str, which: str = "", **at: float) -> Callable[[], float]:
    found = find_law(law)
    return lambda: solve(found, found.published(which).values, at)[answer]


def _off(law: str, which: str, observed: float, **at: float) -> Callable[[], float]:
    """Relative error of a prediction against a released measurement, in percent."""
    found = find_law(law)
    return lambda: 100 * abs(predict(found, found.published(which).values, at).value / observed - 1)


def _chained(which: str, observed: float, **at: float) -> Callable[[], float]:
    """Relative error, in percent, of the task error predicted from the predicted loss."""
    law = find_law("over_training")
    loss = predict(law, law.published(which).values, at).value
    return _off("downstream", which, observed, L=loss)


def _saving() -> float:
    """Compute of the 1.4B run on 900B tokens over that of the five runs fitted."""
    small = 10_569_312
    rays = [(small, 20), (78_914_048, 20), (153_677_376, 20), (411_616_256, 20), (small, 320)]
    return 1_439_795_200 * 921_468_928_000 / sum(n * n * m for n, m in rays)


def derivative_exponent() -> float:
    """gamma of approach 2: the slope of log Nv on log Nnv through the smallest of seven sizes."""
    need_scipy()
    from scipy.optimize import minimize_scalar
    from scipy.special import huber

    sizes = (33e6, 85e6, 151e6, 302e6, 631e6, 1130e6, 2870e6)
    embedding = []
    for size in sizes:
        d = vocabulary.width(size)
        embedding.append(vocabulary.cheapest_vocabulary(size, d) * d)
    x = [math.log(size / sizes[0]) for size in sizes[1:]]
    y = [math.log(each / embedding[0]) for each in embedding[1:]]

    def cost(gamma: float) -> float:
        return float(sum(huber(1e-3, b - gamma * a) for a, b in zip(x, y, strict=True)))

    return float(minimize_scalar(cost, bounds=(0.5, 1), method="bounded",
                                 options={"xatol": 1e-10}).x)  # fmt: skip


def _vocabularies() -> list[Check]:
    laws = ("vocabulary_isoflop", "vocabulary_derivative", "vocabulary")
    printed = {
        3e9: (39e3, 43e3, 37e3), 7e9: (62e3, 67e3, 60e3), 13e9: (83e3, 91e3, 81e3),
        70e9: (212e3, 231e3, 218e3),
    }  # fmt: skip
    return [
        Check(
            law,
            f"V for Nnv = {size / 1e9:g}B",
            value,
            _solve(law, "V", Nnv=size),
            0.015,
            _CONSTANTS,
        )
        for size, row in printed.items()
        for law, value in zip(laws, row, strict=True)
    ]


def checks() -> list[Check]:
    """Every figure that is recomputed, in the order of the table."""
    wide = {"C": 5.76e23}
    return [
        Check("chinchilla", "a of N ~ C^a, constants of the TeX source", 0.46,
              _solve("chinchilla", "a", "hoffmann_tex", **wide), 0.011, "memory"),
        Check("chinchilla", "a, constants as printed", 0.46,
              _solve("chinchilla", "a", "hoffmann", **wide), 0.011, "memory", remark=_ROUNDED),
        Check("chinchilla", "N for Gopher's budget, TeX source", 40e9,
              _solve("chinchilla", "N", "hoffmann_tex", **wide), 0.05, "memory"),
        Check("chinchilla", "N for Gopher's budget, as printed", 40e9,
              _solve("chinchilla", "N", "hoffmann", **wide), 0.05, "memory", remark=_ROUNDED),
        Check("chinchilla", "a of the replication", 0.513,
              _solve("chinchilla", "a", "besiroglu", **wide), 0.002, "memory"),
        Check("over_training", "compute saved at 1.4B and 900B tokens", 300, _saving, 0.15),
        Check("over_training", "% off at 1.4B, 900B tokens (RedPajama)", 0.7,
              _off("over_training", "redpajama", 2.502053562, N=1439795200, M=640), 0.05),
        Check("over_training", "% off at 6.9B, 138B tokens (RedPajama)", 0.7,
              _off("over_training", "redpajama", 2.424993099, N=6889410560, M=20), 0.05),
        Check("downstream", "% off at 1.4B, 900B tokens (RedPajama)", 3.6,
              _chained("redpajama", 0.475215232, N=1439795200, M=640), 0.02),
        Check("downstream", "% off at 6.9B, 138B tokens (RedPajama)", 0.05,
              _chained("redpajama", 0.471637181, N=6889410560, M=20), 0.1),
        Check("vocabulary", "tokens per character f(4096)", 0.33182,
              lambda: float(vocabulary.tokens_per_character(4096)), 1e-4, _CONSTANTS),
        Check("vocabulary", "tokens per character f(128000)", 0.22935,
              lambda: float(vocabulary.tokens_per_character(128000)), 1e-4, _CONSTANTS),
        Check("vocabulary_isoflop", "exponent of Nv on Nnv", 0.83,
              lambda: find_law("vocabulary_isoflop").published().values["alpha"] / 0.5, 0.01),
        Check("vocabulary_derivative", "exponent gamma", 0.8353974, derivative_exponent, 1e-5,
              "paper's code"),
        *_vocabularies(),
        Check("vocabulary", "V for the 3B model at 2.3e21 operations", 43e3,
              _solve("vocabulary", "V", Nnv=2.87e9, C=2.3e21), 0.02),
        *(Check("low_bit", f"D for QiD = 0.2, 4 bits, N = {n / 1e9:g}B", d,
                _solve("low_bit", "D", N=n, P=4, QiD=0.2), 0.01, _CONSTANTS)
          for n, d in ((1e9, 1.65e12), (7e9, 3.8e12), (70e9, 10.3e12))),
        Check("activation_attack", "chi, d = 512, V = 50,304, 16 bits", 21.7,
              _solve("activation_attack", "chi", d=512, V=50304), 0.005, "memory"),
    ]  # fmt: skip


def table() -> str:
    """The checks as a Markdown table."""
    rows: list[tuple[str, ...]] = [
        ("law", "claim", "figure", "source", "recomputed", "verdict"),
        ("---",) * 6,
    ]
    rows += [check.row() for check in checks()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
