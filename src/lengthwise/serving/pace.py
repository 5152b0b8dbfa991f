"""How many tokens of prompts are read between two steps of those who write."""

from __future__ import annotations

# A step may take so many times longer with a chunk beside it. Who writes waits that long.
SLOWED = 2.5
# The fewest tokens of a chunk.
LEAST = 4
# How much of what is known a new measurement replaces.
SHARE = 0.2


class Pace:
    """Seconds of a step and of a token that is read, as they were measured last.

    slowed: how many times longer a round may take for a chunk.
    """

    def __init__(self, slowed: float = SLOWED) -> None:
        self.slowed = slowed
        self.step_s = 0.0
        self.token_s = 0.0

    def stepped(self, seconds: float) -> None:
        """A step without a chunk was made.

        Args:
            seconds: that it took.
        """
        self.step_s += (seconds - self.step_s) * (SHARE if self.step_s else 1.0)

    def read(self, tokens: int, seconds: float) -> None:
        """A chunk was read.

        Args:
            tokens: how many.
            seconds: that it took.
        """
        each = seconds / tokens
        self.token_s += (each - self.token_s) * (SHARE if self.token_s else 1.0)

    def chunk(self, most: int) -> int:
        """Tokens to read beside a step.

        Args:
            most: a forward takes.
        """
        if not self.step_s or not self.token_s:
            return min(most, 16 * LEAST)
        fits = (self.slowed - 1) * self.step_s / self.token_s
        return max(min(LEAST, most), min(most, int(fits)))


__all__ = ["Pace"]
