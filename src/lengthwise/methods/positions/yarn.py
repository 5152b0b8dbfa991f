"""YaRN: slow channels interpolated, fast ones kept, attention made sharper.

Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", ICLR 2024,
arXiv:2309.00071.

Channels that turn many times within the trained length L0 tell neighbours apart, and stay. Channels
that turn less than once are divided by s. A ramp joins the two. Logits grow with the length, to
make up for the entropy that more keys add.

    dim(r)  = d ln(L0 / (2 pi r)) / (2 ln theta)          the channel that turns r times within L0
    low     = floor(dim(beta_fast)),  high = ceil(dim(beta_slow)),  within 0 .. d - 1
    ramp_i  = clip((i - low) / (high - low), 0, 1)
    f_i'    = f_i (1 - ramp_i) + f_i / s ramp_i
    cos and sin are multiplied by 0.1 ln s + 1, for queries and keys, so logits by its square

Defaults are the paper's for Llama. `attention` replaces 0.1 ln s + 1. It is what transformers calls
`attention_factor`; the authors' `attn_factor` multiplies the formula instead. As in the authors'
code, low and high count up to d although i counts the d/2 pairs. Frequencies are fixed, and keys
are cached rotated.

A model may have a static scaling of its own (llama3, yarn). Then f_i is what it was trained with,
and the ramp is that of its plain base and original length. So s extends what the model already
reaches, and factor 1 does nothing. The model's own amplitude stays as a factor.
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


@dataclass(frozen=True)
class YaRN(FrequencyMethod):
    """factor: s. beta_fast, beta_slow: turns within the trained length above which a channel is
    kept and below which it is interpolated. attention: what cos and sin are multiplied by; None is
    the paper's 0.1 ln s + 1."""

    name: ClassVar[str] = "yarn"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[Paper] = Paper(
        "YaRN: Efficient Context Window Extension of Large Language Models",
        "Peng et al.",
        2024,
        arxiv="2309.00071",
        venue="ICLR",
        code="https://github.com/jquesnelle/yarn",
    )
    factor: float = option(4.0, "how many times longer than trained the text may be", low=1.0)
    beta_fast: float = option(32.0, "channels turning more often are kept", low=1.0)
    beta_slow: float = option(1.0, "channels turning less often are interpolated", low=0.01)
    attention: float | None = option(
        None, "attention factor, on cos and sin (none: the paper's 0.1 ln(factor) + 1)", low=0.01
    )

    @classmethod
    def identity(cls, length: int) -> YaRN:
        return cls(factor=1.0)

    def ramp(self, facts: RopeFacts, pairs: int) -> Tensor:
        """How far each pair is interpolated, from 0 to 1: float32 `[pairs]`."""

        def dim(turns: float) -> float:
            ratio = facts.trained_length / (turns * 2 * math.pi)
            return facts.rotary_dim * math.log(ratio) / (2 * math.log(facts.theta))

        low = max(math.floor(dim(self.beta_fast)), 0)
        high = min(math.ceil(dim(self.beta_slow)), facts.rotary_dim - 1)
        # Equal ends would divide by zero; a hair apart, the ramp is a step.
        width = high - low or 1e-3
        return ((torch.arange(pairs, dtype=torch.float32) - low) / width).clamp(0, 1)

    def changed(self, inv_freq: Tensor, facts: RopeFacts, length: int) -> tuple[Tensor, float]:
        ramp = self.ramp(facts, len(inv_freq)).to(inv_freq.device)
        mixed = inv_freq * (1 - ramp) + inv_freq / self.factor * ramp
        return mixed, self.attention or 0.1 * math.log(self.factor) + 1.0
