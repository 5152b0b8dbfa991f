"""What asking a drafter costs and brings, so that one that does not pay is not asked."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from statistics import median_low

from lengthwise.engine.speculative.acceptance import MEAN, PRIOR_WEIGHT

# Times in a row that a drafter is asked when it is tried: at first, and after a pause.
TRIALS = 2
# Trying drafters that did not pay lately may cost this share of the time.
TRYING = 0.01
# What one more round leaves of the weight of those before it, in the long memory and in the short.
LONG, SHORT = 0.99, 0.9
# What one more level leaves of the weight of those before it in the usual probability of one.
USUAL = 0.9
# Standard deviations between the memories at which the long one is given up.
CHANGED = 3.0
# Recent times of a level that are kept.
RECENT = 5


def _recent() -> deque[float]:
    return deque(maxlen=RECENT)


@dataclass
class DrafterStats:
    """What asking a drafter has cost and brought lately.

    seconds, tokens: of asking it once.
    asked: how often it was. idle: steps since. trying: how often it is still to be asked before it
    is judged.

    Of drafters that run a model:
    width: nodes a level.
    usual: probability of the best guess of a level, on average.
    right: levels that were right and that nobody had guessed before.
    tested: levels whose parent was right; the first is weighted by the probability that it was
    needed.
    late_right, late_tested: the same of the last rounds alone.
    levels: seconds of recent levels.
    """

    seconds: float = 0.0
    tokens: float = 0.0
    asked: int = 0
    idle: int = 0
    trying: int = TRIALS
    width: float = 1.0
    usual: float = MEAN
    right: float = 0.0
    tested: float = 0.0
    late_right: float = 0.0
    late_tested: float = 0.0
    levels: deque[float] = field(default_factory=_recent)

    @property
    def level_seconds(self) -> float:
        """Time of a level: a low median, for a hiccup only ever makes it longer."""
        return median_low(self.levels) if self.levels else self.seconds

    @property
    def alpha(self) -> float:
        """Probability that a level is right where the one above it is."""
        # A first level hardly needed counts little as tested, but in full where it is right.
        return min(1.0, (PRIOR_WEIGHT * MEAN + self.right) / (PRIOR_WEIGHT + self.tested))

    def prob(self, drafted: float) -> float:
        """The same for a level whose best guess has the probability `drafted`."""
        return min(1.0, self.alpha * drafted / self.usual)

    def wait(self, plain: float) -> bool:
        """Whether a drafter that does not pay is left out once more; else it is tried again.

        plain: seconds of a plain step. The time between two trials pays for the next.
        """
        self.idle += 1
        if self.idle * plain * TRYING < TRIALS * self.seconds:
            return True
        self.trying = TRIALS
        return False

    def note_time(self, levels: int, seconds: float) -> None:
        # A drafter asked after a pause also reads what it missed, which says nothing of a level.
        if levels and self.asked and not self.idle:
            self.levels.append(seconds / levels)
        self.seconds += max(0.1, 1 / (self.asked + 1)) * (seconds - self.seconds)
        self.asked += 1
        self.idle = 0

    def note_gain(self, tokens: int, probs: Seq[float], missed: float) -> None:
        """Notes what a round brought. A drafter that guesses nothing is wrong.

        tokens: accepted ones that it guessed first. probs: of the best guess, by level. missed:
        probability that they were needed.
        """
        self.tokens += max(0.1, 1 / max(1, self.asked)) * (tokens - self.tokens)
        right = min(tokens, len(probs))
        tested = missed + min(tokens, max(0, len(probs) - 1))
        for prob in probs[: tokens + 1]:
            self.usual = max(1e-3, USUAL * self.usual + (1 - USUAL) * prob)
        self.right, self.tested = LONG * self.right + right, LONG * self.tested + tested
        self.late_right = SHORT * self.late_right + right
        self.late_tested = SHORT * self.late_tested + tested
        alpha, late = self.alpha, self.late_tested
        spread = math.sqrt(alpha * (1 - alpha) * late)
        if abs(self.late_right - alpha * late) > CHANGED * spread:
            self.right, self.tested = self.late_right, self.late_tested
