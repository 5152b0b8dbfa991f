"""RoPE with a harmonic ALiBi: far keys lose by the harmonic series of their distance.

Fulu Li, "The Nature of Mathematical Modeling and Probabilistic Optimization Engineering in
Generative AI", 2024, arXiv:2410.18441, proposes to combine rotary positions and ALiBi with a
harmonic series. ALiBi is Press et al., "Train Short, Test Long: Attention with Linear Biases
Enables Input Length Extrapolation", ICLR 2022, arXiv:2108.12409. What follows is a reconstruction
from the abstract; the formulas are ours.

    logit(i, j) = R(i) q . R(j) k / sqrt(d) - s m_h H(i - j)
    H(n)        = 1 + 1/2 + .. + 1/n,  H(0) = 0                  grows like ln n + 0.577
    m_h         = 2^(-8 h / heads),  h = 1 .. heads              ALiBi's slopes

A bias of m ln n multiplies a key's weight by n^-m, so that far keys are read less by a power of
their distance; ALiBi's own bias, linear in it, makes them vanish. Rotation stays as it is. s scales
all slopes, and 0 changes nothing. ALiBi trains with its bias; here it is put on a trained model, so
short texts lose what long ones gain. ALiBi's slopes for a number of heads that is no power of two
interleave two series; ours are one.

No kernel of attention knows the bias, so scores are made, as many queries at a time as memory is
meant for. Layers with a window of their own keep to their own rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.models.layer_facts import LayerFacts


@dataclass(frozen=True)
class RopeAlibi(Method):
    """slope: s, which scales the slopes of all heads."""

    name: ClassVar[str] = "rope_alibi"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[tuple[Paper, ...]] = (
        Paper(
            "The Nature of Mathematical Modeling and Probabilistic Optimization Engineering in "
            "Generative AI",
            "Fulu Li",
            2024,
            arxiv="2410.18441",
        ),
        Paper(
            "Train Short, Test Long: Attention with Linear Biases Enables Input Length "
            "Extrapolation",
            "Press et al.",
            2022,
            arxiv="2108.12409",
            venue="ICLR",
        ),
    )
    ordinary_only: ClassVar[bool] = True

    slope: float = option(
        1.0, "what the slopes of all heads are multiplied by", low=0.0, high=100.0
    )

    @classmethod
    def identity(cls, length: int) -> RopeAlibi:
        return cls(slope=0.0)

    def distance_bias(self, layer: LayerFacts) -> HarmonicBias | None:
        return HarmonicBias(self.slope, layer.num_heads) if self.slope else None


@dataclass(frozen=True)
class HarmonicBias:
    """The bias of one layer."""

    slope: float
    heads: int

    def __call__(self, distance: Tensor) -> Tensor:
        heads = torch.arange(1, self.heads + 1, dtype=torch.float32, device=distance.device)
        slopes = self.slope * torch.exp2(-8.0 / self.heads * heads)
        return -slopes[:, None, None] * harmonic(distance)


def harmonic(distance: Tensor) -> Tensor:
    """H of whole numbers from 0 on: float32 of the same shape."""
    size = 1 << int(distance.max()).bit_length() if distance.numel() else 1
    return _table(max(1024, size), distance.device)[distance]


@lru_cache(maxsize=8)
def _table(size: int, device: torch.device) -> Tensor:
    """H of 0 to `size`: it is asked for every block of scores."""
    terms = 1.0 / torch.arange(1, size + 1, dtype=torch.float64)
    return torch.cat([terms.new_zeros(1), terms.cumsum(0)]).float().to(device)


__all__ = ["RopeAlibi"]
