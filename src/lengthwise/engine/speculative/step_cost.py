"""Seconds of a step by its number of guesses, measured on this machine."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

# Times are remembered for these numbers of guesses; others are counted to the nearest.
ANCHORS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
# Recent times kept an anchor. Their low median stands: a hiccup only ever makes a step longer.
RECENT = 5
# Steps for which a single time counts; each further one of the anchor makes that 4 times more.
# So a size that looked too slow is tried again, but ever more rarely.
COUNTED = 32


class StepCost:
    """Seconds of a step by its number of guesses: a prior shape, corrected by what was measured.

    The shape is 1 + slope * guesses. What is kept for an anchor is time divided by shape; between
    anchors that ratio is interpolated, beyond them it stays.
    """

    def __init__(self, slope: float) -> None:
        self.slope = slope
        self._steps = 0
        self._recent: dict[int, deque[float]] = {}
        self._last: dict[int, int] = {}
        self._borrowed = False
        self._found: tuple[NDArray[np.float64], list[float]] | None = None

    def borrow(self) -> StepCost:
        """A copy for another load, whose first measurement sets its scale."""
        new = StepCost(self.slope)
        for anchor in filter(self._counted, self._recent):
            new._recent[anchor] = self._recent[anchor].copy()
            new._last[anchor] = 0
        new._borrowed = bool(new._recent)
        return new

    def observe(self, guesses: int, seconds: float) -> None:
        """A step of `guesses` guesses took `seconds`. A clock that stands still says nothing."""
        if seconds <= 0:
            return
        if self._borrowed:
            scale = seconds / float(self.curve(guesses)[-1])
            for times in self._recent.values():
                times.extend([scale * times.popleft() for _ in range(len(times))])
            self._borrowed = False
        self._steps += 1
        self._found = None
        anchor = min(ANCHORS, key=lambda a: abs(math.log1p(a) - math.log1p(guesses)))
        ratio = seconds / (1 + self.slope * guesses)
        self._recent.setdefault(anchor, deque(maxlen=RECENT)).append(ratio)
        self._last[anchor] = self._steps

    @property
    def known(self) -> bool:
        """Whether a step was measured, so that times are seconds."""
        return bool(self._recent)

    @property
    def unsure(self) -> bool:
        """Whether times are known, but not that of a plain step, which others are compared with.

        Below the smallest size measured the shape is a guess.
        """
        return self.known and not (0 in self._recent and self._counted(0))

    def curve(self, most: int) -> NDArray[np.float64]:
        """Expected time of 0 to `most` guesses, `[most + 1]`; relative until one is measured."""
        guesses = np.arange(most + 1, dtype=np.float64)
        shape = 1 + self.slope * guesses
        known, ratios = self._ratios()
        if not ratios:
            return shape
        return np.multiply(shape, np.interp(np.log1p(guesses), known, ratios))

    @property
    def plain(self) -> float:
        """Expected time of a step without guesses: the first of `curve`."""
        ratios = self._ratios()[1]
        return ratios[0] if ratios else 1.0

    def _ratios(self) -> tuple[NDArray[np.float64], list[float]]:
        """Sizes that count, as log(1 + guesses), and the times of each divided by its shape."""
        # Asked several times a step, and changed once.
        if self._found is None:
            known = [a for a in ANCHORS if a in self._recent and self._counted(a)]
            ratios = [median_low(self._recent[a]) for a in known]
            self._found = np.log1p(np.array(known, dtype=np.float64)), ratios
        return self._found

    def _counted(self, anchor: int) -> bool:
        age = self._steps - self._last[anchor]
        return bool(age <= COUNTED * 4 ** (len(self._recent[anchor]) - 1))


@dataclass(frozen=True)
class Load:
    """What a step's time depends on besides the number of guesses.

    recipe: texts of the plans that run. rows: sequences in the batch. octave: floor(log2) of the
    tokens of all rows, plus 1.
    """

    recipe: str
    rows: int
    octave: int
