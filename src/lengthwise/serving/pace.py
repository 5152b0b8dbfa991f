"""How many tokens of a prompt are read in, or after, a step of those who write."""

from __future__ import annotations

from collections import deque
from statistics import median

# A step may take so many times longer with a chunk beside it. Who writes waits that long.
SLOWED = 2.25
# The fewest tokens of a chunk, and those of a first one.
LEAST = 4
FIRST = 64
# Every how many-th round is a step alone, while prompts are read: what that takes changes.
ALONE = 16
# Measurements of which the median counts: one that something else held up changes nothing.
LATELY = 9


class Pace:
    """Seconds of a step alone, and of a token that is read in it or between two, as of late.

    slowed: how many times longer a round may take for what is read in it.
    """

    def __init__(self, slowed: float = SLOWED) -> None:
        self.slowed = slowed
        self._steps = deque[float](maxlen=LATELY)
        self._tokens = deque[float](maxlen=LATELY)
        self._sliced = deque[float](maxlen=LATELY)

    @property
    def step_s(self) -> float:
        """Seconds of a step alone; 0 where none was made yet."""
        return median(self._steps) if self._steps else 0.0

    @property
    def room(self) -> float:
        """Seconds that are left for reading in a round."""
        return (self.slowed - 1) * self.step_s

    def stepped(self, seconds: float) -> None:
        """A step without a chunk was made.

        Args:
            seconds: that it took.
        """
        self._steps.append(seconds)

    def read(self, tokens: int, seconds: float) -> None:
        """A chunk was read.

        Args:
            tokens: how many.
            seconds: that it took; in a step, those beyond what a step alone takes.
        """
        self._tokens.append(max(0.0, seconds) / tokens)

    def sliced(self, tokens: int, seconds: float) -> None:
        """A chunk was read a few layers at a time.

        Args:
            tokens: how many.
            seconds: that all layers took.
        """
        self._sliced.append(seconds / tokens)

    def chunk(self, most: int) -> int:
        """Tokens to read in a round.

        Args:
            most: a forward takes.
        """
        return self._fit(self._tokens, self.room, most)

    def slice(self, most: int, layers: int) -> int:
        """Tokens of a chunk that is read a few layers at a time: one of these is to take half of
        what a round has.

        Args:
            most: a forward takes.
            layers: of the model.
        """
        return self._fit(self._sliced, self.room / 2 * layers, most)

    def _fit(self, each: deque[float], seconds: float, most: int) -> int:
        """As many tokens as seconds are enough for."""
        if not seconds or not each:
            return min(most, FIRST)
        token = median(each)
        return max(min(LEAST, most), min(most, int(seconds / token) if token else most))


__all__ = ["Pace"]
