"""Giraffe: other rotary bases, by power, by truncation and by linear scale.

Pal et al., "Giraffe: Adventures in Expanding Context Lengths in LLMs", 2023, arXiv:2308.10882.

The paper studies which change of the frequencies reaches the longest texts when a model is tuned
with it. Linear scaling wins. The paper also introduces a truncated basis: channels too slow to be
learned within the window no longer depend on the position.

    linear     f_i <- f_i / s
    power      f_i <- f_i (1 - i / (d/2))^p
    truncated  hi = 2 pi / Tr,  lo = 2 pi / (16 Tr)
               f_i >= hi: kept;   hi / 8 <= f_i < hi: lo;   f_i < hi / 8: 0

The paper tries them one at a time. Here those asked for apply in this order, which is that of the
authors' code. The default is the paper's winner: the linear scale alone, by the 4 of its first
released model. Asking for another change asks for no scale, as in the code, unless one is given.

A frequency of zero is meant: that channel compares content only. The constants 8 and 16 are the
authors'. Keys are cached rotated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.methods.base import Paper, Question, option
from lengthwise.methods.positions.frequency import FrequencyMethod
from lengthwise.models.rope import RopeFacts

DEFAULT_SCALE = 4.0


@dataclass(frozen=True)
class Giraffe(FrequencyMethod):
    """truncate: Tr in tokens, the longest wavelength that is kept; None keeps all. power: p.
    scale: s; None is DEFAULT_SCALE where nothing else is asked for, and else 1."""

    name: ClassVar[str] = "giraffe"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[Paper] = Paper(
        "Giraffe: Adventures in Expanding Context Lengths in LLMs",
        "Pal et al.",
        2023,
        arxiv="2308.10882",
        code="https://github.com/abacusai/Long-Context",
    )
    truncate: int | None = option(None, "longest wavelength kept, in tokens (none: all)", low=1)
    power: float = option(0.0, "power p of the slow channels' decay (0: none)", low=0.0)
    scale: float | None = option(
        None, "all frequencies are divided by it first (none: 4, or 1 with another change)", low=1.0
    )

    @classmethod
    def identity(cls, length: int) -> Giraffe:
        return cls(scale=1.0)

    @property
    def divisor(self) -> float:
        """s, as asked for or as it follows."""
        if self.scale is not None:
            return self.scale
        return 1.0 if self.truncate or self.power else DEFAULT_SCALE

    def basis(self, inv_freq: Tensor) -> Tensor:
        """The changed frequencies, float32 `[pairs]`."""
        pairs = len(inv_freq)
        share = torch.arange(pairs, dtype=torch.float32, device=inv_freq.device) / pairs
        changed = inv_freq / self.divisor * (1 - share) ** self.power
        if self.truncate:
            high = 2 * math.pi / self.truncate
            slow = torch.where(changed >= high / 8, high / 16, 0.0)
            changed = torch.where(changed >= high, changed, slow)
        return changed

    def changed(self, inv_freq: Tensor, facts: RopeFacts, length: int) -> tuple[Tensor, float]:
        return self.basis(inv_freq), 1.0
