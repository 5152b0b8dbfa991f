"""PI: positions divided by a factor.

Chen et al., "Extending Context Window of Large Language Models via Positional Interpolation", 2023,
arXiv:2306.15595.

A token at position m is placed at m L0 / L1. So no distance exceeds the trained length L0, however
long the text of L1 tokens is. Neighbours come closer than the model ever saw them. That costs
quality, unless the model is tuned for it.

    f(x, m) -> f(x, m / s),  s = L1 / L0        as frequencies: theta_i -> theta_i / s

Dividing frequencies is the same as dividing positions, so keys are cached rotated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lengthwise.methods.base import Paper, Question, option
from lengthwise.methods.positions.frequency import FrequencyMethod
from lengthwise.models.rope import RopeFacts


@dataclass(frozen=True)
class PI(FrequencyMethod):
    """factor: s, how many times longer than trained the text may be."""

    name: ClassVar[str] = "pi"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[Paper] = Paper(
        "Extending Context Window of Large Language Models via Positional Interpolation",
        "Chen et al.",
        2023,
        arxiv="2306.15595",
    )
    factor: float = option(4.0, "positions are divided by it", low=1.0)

    @classmethod
    def identity(cls, length: int) -> PI:
        return cls(factor=1.0)

    def changed(self, inv_freq: Tensor, facts: RopeFacts, length: int) -> tuple[Tensor, float]:
        return inv_freq / self.factor, 1.0
