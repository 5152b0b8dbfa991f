"""What decides on the training of an encoder of soft contexts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from lengthwise.training.config import TrainingError


@dataclass(frozen=True)
class Settings:
    """How an encoder is trained.

    Attributes:
        steps: updates of each stage.
        batch: examples of an update; None is the method's.
        together: examples of a forward.
        lr: of Adam at its highest; None is the method's.
        warmup: the share of steps in which the rate rises from nothing.
        decay: the share of steps at the end in which it falls.
        clip: most that the norm of a gradient may be.
        length: tokens of a drawn text, at most.
        held_out: examples whose loss is told in the end.
        every: steps between two checkpoints.
        seed: of what is drawn.
    """

    steps: int = 1000
    batch: int | None = None
    together: int = 8
    lr: float | None = None
    warmup: float = 0.05
    decay: float = 0.3
    clip: float = 1.0
    length: int = 2048
    held_out: int = 16
    every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "together", "length", "every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TrainingError(f"{name}={value}: give at least 1")
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr > 0):
            raise TrainingError(f"lr={self.lr}: give a number above 0")
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise TrainingError(f"clip={self.clip}: give a number above 0")
        for name in ("warmup", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"{name}={getattr(self, name)}: give a share from 0 to 1")
        if self.held_out < 0:
            raise TrainingError(f"held_out={self.held_out}: give 0 or more")

    def rate(self, step: int, most: float) -> float:
        """Adam's rate in a step.

        Args:
            step: of a stage, from 0.
            most: the highest.
        """
        rises = (step + 1) / max(1.0, self.warmup * self.steps)
        falls = (self.steps - step) / max(1.0, self.decay * self.steps)
        return most * min(1.0, rises, falls)

    def deciding(self) -> dict[str, Any]:
        """What decides on the weights: all but when checkpoints are written, and what is told."""
        found = asdict(self)
        del found["every"], found["held_out"]
        return found


__all__ = ["Settings"]
