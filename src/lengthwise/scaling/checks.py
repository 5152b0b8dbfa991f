"""What the papers claim beside what their constants give: `lengthwise scaling check`.

Only figures that follow from a law are here. Where the exponents alone were published
(learning_curve, best_size) or the constants come from memory (converged, trajectory), there is
nothing to recompute but identities, which the tests hold. One rule says for all of them what
agrees, see RULE.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from itertools import product

from lengthwise.scaling import vocabulary
from lengthwise.scaling.law import find_law, need_scipy
from lengthwise.scaling.predict import predict, solve

RULE = (
    "A figure agrees where the recomputed one, rounded to the digits that were printed, is the "
    "same: it lies within half a unit of the last printed digit. Zeros at the end of a whole "
    "number do not count as digits, so 300 stands for 250 to 350."
)
_CONSTANTS = "its constants"


@dataclass(frozen=True)
class Check:
    """A figure as it was printed, and what recomputes it.

    `source` tells a figure of the paper from one that others computed from its constants, or that
    is given from memory. remark: why it does not agree, where that is known.
    """

    law: str
    claim: str
    printed: str
    recompute: Callable[[], float]
    source: str = "paper"
    remark: str = ""

    @property
    def figure(self) -> float:
        return float(self.printed)

    @property
    def interval(self) -> tuple[float, float]:
        """What rounds to the printed figure: half a unit of its last digit around it."""
        return around(self.printed)

    def agrees(self, found: float) -> bool:
        low, high = self.interval
        return low <= found <= high

    def row(self) -> tuple[str, ...]:
        """The cells of the table."""
        found = self.recompute()
        low, high = self.interval
        verdict = "agrees" if self.agrees(found) else f"off by {abs(found / self.figure - 1):.1%}"
        if self.remark:
            verdict += f": {self.remark}"
        within = f"{_short(low)} to {_short(high)}"
        # No law is known to more than five digits.
        again = _short(float(f"{found:.5g}"))
        return self.law, self.claim, _short(self.figure), self.source, within, again, verdict


def around(printed: str) -> tuple[float, float]:
    """The lowest and the highest number that the printed one stands for."""
    figure = Decimal(printed)
    digits = figure.as_tuple()
    unit = int(digits.exponent)
    if "." not in printed:
        unit += len(text := "".join(map(str, digits.digits))) - len(text.rstrip("0"))
    half = Decimal(5).scaleb(unit - 1)
    return float(figure - half), float(figure + half)


def _short(value: float) -> str:
    return f"{value:,.0f}" if 1e3 <= value < 1e6 else f"{value:.6g}".replace("e+", "e")


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


def _rounding(law: str, answer: str, which: str, **at: float) -> str:
    """Where an answer may lie, as the constants were rounded when they were printed."""
    found = find_law(law)
    values = found.published(which).values
    ends = product(*(around(repr(value)) for value in values.values()))
    all_of_them = [solve(found, dict(zip(values, each, strict=True)), at)[answer] for each in ends]
    return f"constants as rounded give {_short(min(all_of_them))} to {_short(max(all_of_them))}"


def _vocabularies() -> list[Check]:
    laws = ("vocabulary_isoflop", "vocabulary_derivative", "vocabulary")
    printed = {
        3e9: ("39e3", "43e3", "37e3"), 7e9: ("62e3", "67e3", "60e3"),
        13e9: ("83e3", "91e3", "81e3"), 70e9: ("212e3", "231e3", "218e3"),
    }  # fmt: skip
    return [
        Check(law, f"V for Nnv = {size / 1e9:g}B", value, _solve(law, "V", Nnv=size), _CONSTANTS)
        for size, row in printed.items()
        for law, value in zip(laws, row, strict=True)
    ]


def checks() -> list[Check]:
    """Every figure that is recomputed, in the order of the table."""
    wide = {"C": 5.76e23}
    return [
        Check("chinchilla", "a of N ~ C^a, constants of the TeX source", "0.46",
              _solve("chinchilla", "a", "hoffmann_tex", **wide), "memory"),
        Check("chinchilla", "a, constants as printed", "0.46",
              _solve("chinchilla", "a", "hoffmann", **wide), "memory",
              remark=_rounding("chinchilla", "a", "hoffmann", **wide)),
        Check("chinchilla", "N for Gopher's budget, TeX source", "40e9",
              _solve("chinchilla", "N", "hoffmann_tex", **wide), "memory"),
        Check("chinchilla", "N for Gopher's budget, as printed", "40e9",
              _solve("chinchilla", "N", "hoffmann", **wide), "memory",
              remark=_rounding("chinchilla", "N", "hoffmann", **wide)),
        Check("chinchilla", "a of the replication", "0.513",
              _solve("chinchilla", "a", "besiroglu", **wide), "memory"),
        Check("over_training", "compute saved at 1.4B and 900B tokens", "300", _saving),
        Check("over_training", "% off at 1.4B, 900B tokens (RedPajama)", "0.7",
              _off("over_training", "redpajama", 2.502053562, N=1439795200, M=640)),
        Check("over_training", "% off at 6.9B, 138B tokens (RedPajama)", "0.7",
              _off("over_training", "redpajama", 2.424993099, N=6889410560, M=20)),
        Check("downstream", "% off at 1.4B, 900B tokens (RedPajama)", "3.6",
              _chained("redpajama", 0.475215232, N=1439795200, M=640)),
        Check("downstream", "% off at 6.9B, 138B tokens (RedPajama)", "0.05",
              _chained("redpajama", 0.471637181, N=6889410560, M=20)),
        Check("vocabulary", "tokens per character f(4096)", "0.33182",
              lambda: float(vocabulary.tokens_per_character(4096)), _CONSTANTS),
        Check("vocabulary", "tokens per character f(128000)", "0.22935",
              lambda: float(vocabulary.tokens_per_character(128000)), _CONSTANTS),
        Check("vocabulary_isoflop", "exponent of Nv on Nnv", "0.83",
              lambda: find_law("vocabulary_isoflop").published().values["alpha"] / 0.5),
        # Their search stops within 1e-5, so no more digits of its 0.8353974 are theirs.
        Check("vocabulary_derivative", "exponent gamma", "0.83540", derivative_exponent,
              "paper's code"),
        *_vocabularies(),
        Check("vocabulary", "V for the 3B model at 2.3e21 operations", "43e3",
              _solve("vocabulary", "V", Nnv=2.87e9, C=2.3e21),
              remark="with 3B for its 2.87B, "
                     f"{_short(_solve('vocabulary', 'V', Nnv=3e9, C=2.3e21)())}"),
        *(Check("low_bit", f"D for QiD = 0.2, 4 bits, N = {n / 1e9:g}B", d,
                _solve("low_bit", "D", N=n, P=4, QiD=0.2), _CONSTANTS)
          for n, d in ((1e9, "1.65e12"), (7e9, "3.8e12"), (70e9, "10.3e12"))),
        Check("activation_attack", "chi, d = 512, V = 50,304, 16 bits", "21.7",
              _solve("activation_attack", "chi", d=512, V=50304), "memory"),
    ]  # fmt: skip


def table() -> str:
    """The rule, and the checks as a Markdown table."""
    rows: list[tuple[str, ...]] = [
        ("law", "claim", "figure", "source", "agrees within", "recomputed", "verdict"),
        ("---",) * 7,
    ]
    rows += [check.row() for check in checks()]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*textwrap.wrap(RULE, 100), "", *lines])
