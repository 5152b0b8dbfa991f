"""ABF: a rotary base of 500,000.

Xiong et al., "Effective Long-Context Scaling of Foundation Models", NAACL 2024, arXiv:2309.16039.

Under the base that a model was trained with, attention to far tokens decays. A larger base slows
the channels, the slow ones most, and far tokens are seen again. The authors raise the base and go
on training with long rows.

    f_i = theta^(-2i / d)   ->   f_i' = beta^(-2i / d),   i = 0 .. d/2 - 1,   beta = 500,000

d is the number of channels of a head that rotate. No code of the authors is public.

It runs as it is on any model, and weights are trained under it by `[positions]` of a run. Ours is a
factor (beta / theta)^(-2i / d) on the frequencies that the model has, so a static scaling of its
own stays. A model whose base is larger already is refused, since a smaller one would undo what it
was trained for. Keys are cached rotated. `ntk` names the same family of bases by how far they
reach, `entropy_abf` adds a scale of logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lengthwise.methods.base import Paper, Question, option
from lengthwise.methods.positions.frequency import FrequencyMethod, needs_smaller_base, rebased
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.rope import RopeFacts


@dataclass(frozen=True)
class ABF(FrequencyMethod):
    """base: beta; None keeps the model's."""

    name: ClassVar[str] = "abf"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[Paper] = Paper(
        "Effective Long-Context Scaling of Foundation Models",
        "Xiong et al.",
        2024,
        arxiv="2309.16039",
        venue="NAACL",
    )
    base: float | None = option(
        500_000.0, "rotary base in place of the model's (none: the model's)", low=2.0
    )

    @classmethod
    def identity(cls, length: int) -> ABF:
        return cls(base=None)

    def check(self, model: AdaptedModel) -> None:
        super().check(model)
        needs_smaller_base(self, model, self.base)

    def changed(self, inv_freq: Tensor, facts: RopeFacts, length: int) -> tuple[Tensor, float]:
        return rebased(inv_freq, facts, self.base), 1.0
