"""NTK-aware scaling: a larger rotary base.

bloc97, "NTK-Aware Scaled RoPE allows LLaMA models to have extended (8k+) context size without any
fine-tuning and minimal perplexity degradation", 2023. A forum post; the YaRN paper,
arXiv:2309.00071, describes it.

PI slows every channel alike. Here the base is raised instead. The fastest channel keeps its
frequency, the slowest is divided by s, and those between by a factor between.

    theta' = theta s^(d / (d - 2))     hence     f_i' = f_i s^(-2i / (d - 2)),  i = 0 .. d/2 - 1

d is the number of channels of a head that rotate. Keys are cached rotated. `dynamic_ntk` is the
same with s taken from the current length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lengthwise.methods.base import Paper, Question, option
from lengthwise.methods.positions.frequency import (
    FrequencyMethod,
    ntk_ratio,
)
from lengthwise.models.rope import RopeFacts


@dataclass(frozen=True)
class NTK(FrequencyMethod):
    """factor: s, by which the slowest channel is slowed."""

    name: ClassVar[str] = "ntk"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[Paper] = Paper(
        "NTK-Aware Scaled RoPE allows LLaMA models to have extended (8k+) context size "
        "without any fine-tuning and minimal perplexity degradation",
        "bloc97",
        2023,
        url="https://www.reddit.com/r/LocalLLaMA/comments/14lz7j5/ntkaware_scaled_rope_allows_llama_models_to_have/",
    )
    factor: float = option(4.0, "the slowest rotary channel is slowed by it", low=1.0)

    @classmethod
    def identity(cls, length: int) -> NTK:
        return cls(factor=1.0)

    def changed(self, inv_freq: Tensor, facts: RopeFacts, length: int) -> tuple[Tensor, float]:
        ratio = ntk_ratio(self.factor, facts.rotary_dim, len(inv_freq))
        return inv_freq * ratio.to(inv_freq.device), 1.0
