"""Dynamic NTK: a rotary base that grows with the text.

emozilla, "Dynamically Scaled RoPE further increases performance of long context LLaMA with zero
fine-tuning", 2023. A forum post; the YaRN paper, arXiv:2309.00071, describes it.

Texts within the trained length L0 are read with the trained base, exactly. Beyond L0 the base
follows the current length n, so a text is never stretched more than it must be.

    n <= L0: theta' = theta          n > L0: theta' = theta (s n / L0 - (s - 1))^(d / (d - 2))

During a prompt n is the prompt's length, afterwards the current one.

Ours differs in two ways. Keys are cached un-rotated and rotated when read, where common code keeps
keys of an older base. And n is rounded up to a multiple of a small step: at most 64 tokens, a
divisor of L0. So a draft can be verified under one base. Within the trained length nothing changes.

Past L0 a step moves the keys of all tokens. It does not change what deeper layers computed from
them under an older base. So decoding is not what a prefill of the same text gives. `length` freezes
the base at that many tokens, which makes decoding exact and lets keys be cached rotated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.positions.frequency import needs_still_frequencies, ntk_ratio
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.rope import FrequencyRule, RopeFacts

STEP = 64


@dataclass(frozen=True)
class DynamicNTK(Method):
    """factor: s of the formula above. length: None follows the text; otherwise the base is that
    of a text of `length` tokens from the start."""

    name: ClassVar[str] = "dynamic_ntk"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[Paper] = Paper(
        "Dynamically Scaled RoPE further increases performance of long context LLaMA with "
        "zero fine-tuning",
        "emozilla",
        2023,
        url="https://www.reddit.com/r/LocalLLaMA/comments/14mrgpr/dynamically_scaled_rope_further_increases/",
    )
    decoding_exact: ClassVar[bool] = False
    raw_keys: ClassVar[bool] = True
    factor: float = option(2.0, "how fast the base grows past the trained length", low=1.0)
    length: int | None = option(None, "tokens the base is frozen at (none: follow the text)", low=1)

    @classmethod
    def identity(cls, length: int) -> DynamicNTK:
        return cls(length=1)

    def check(self, model: AdaptedModel) -> None:
        needs_still_frequencies(self, model)

    def growth(self, length: int, trained: int) -> float:
        """What the slowest channel is divided by at `length` tokens."""
        if length <= trained:
            return 1.0
        return self.factor * length / trained - (self.factor - 1)

    def frequencies(self, model: AdaptedModel) -> FrequencyRule:
        step = math.gcd(STEP, model.trained_length)

        def scale(inv_freq: Tensor, facts: RopeFacts, length: int) -> tuple[Tensor, float]:
            tokens = self.length or -(-length // step) * step
            growth = self.growth(tokens, facts.trained_length)
            ratio = ntk_ratio(growth, facts.rotary_dim, len(inv_freq))
            return inv_freq * ratio.to(inv_freq.device), 1.0

        if self.length:
            return FrequencyRule(scale)
        return FrequencyRule(scale, dynamic=True, interval=step)
