"""Softplus attention (LSSA), and its re-weighting (LSSAR).

Gao and Spratling, "Softplus Attention with Re-weighting Boosts Length Extrapolation in Large
Language Models", 2025, arXiv:2501.13428.

exp is replaced by softplus with a scale that knows how many keys a row has. A power then sharpens
what is above the mean, so that many far keys cannot thin out the near ones.

    S_ij = ln d  ln N_i  (q_i . k_j)                    q and k of length one, N_i keys of row i
    A    = softplus(S), 0 where unseen, over its sum    LSSA
    A    = relu(A N_i - O)^p, over its sum + 1e-8       LSSAR; O = 1, in the first 3 rows 0

p is 3 at the trained length and 15 for longer texts. Queries and keys are rotary, as in the paper,
in all channels. All of it is float32, and x^p is taken of x over the row's largest: x is up to N_i,
and 512^15 leaves the range of float32, too. Sums of softplus could be joined part by part, the
power needs them whole, so this is no recipe.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.architectures.decoder import Attention, Decoder, DecoderConfig

BASE, LEAST, FIRST = 10_000.0, 1e-8, 3


class SoftplusConfig(DecoderConfig):
    """power: p; 0 leaves the re-weighting out (LSSA)."""

    model_type = "softplus_attention"

    def __init__(self, power: float = 3.0, **sizes: Any) -> None:
        if power < 0:
            raise ValueError(f"power={power}: 0 (LSSA) or more")
        self.power = power
        super().__init__(**sizes)


class SoftplusMixing(Attention):
    """Attention by softplus."""

    def mix(
        self, query: Tensor, key: Tensor, value: Tensor, distance: Tensor, seen: Tensor,
        positions: Tensor,
    ) -> Tensor:  # fmt: skip
        query, key = (F.normalize(turned(x.float(), positions), dim=-1) for x in (query, key))
        keys = seen.sum(-1, keepdim=True).float()
        scores = math.log(self.config.head_dim) * keys.log() * (query @ key.mT)
        weights = F.softplus(scores) * seen
        weights = weights / weights.sum(-1, keepdim=True)
        power = float(getattr(self.config, "power", 0.0))
        if power:
            shift = (keys > FIRST).float()
            weights = sharpened(F.relu(weights * keys - shift) * seen, power)
        return weights.to(value.dtype) @ value


class SoftplusAttention(Decoder):
    """The decoder with softplus attention."""

    config_class = SoftplusConfig
    attention = SoftplusMixing


def sharpened(weights: Tensor, power: float) -> Tensor:
    """x^p over its sum + LEAST, of x `[rows, heads, n, n]`, 0 or more."""
    # Nothing above 1 is raised. What the rows are divided by is no variable: it cancels.
    largest = weights.detach().amax(-1, keepdim=True).clamp_min(1)
    raised = (weights / largest) ** power
    return raised / (raised.sum(-1, keepdim=True) + LEAST / largest**power)


def turned(x: Tensor, positions: Tensor) -> Tensor:
    """x `[rows, heads, n, head_dim]`, its halves turned by positions `[rows, n]`."""
    half = x.shape[-1] // 2
    speed = BASE ** -(torch.arange(half, device=x.device) / half)
    angles = positions[:, None, :, None] * speed
    first, second = x[..., :half], x[..., half:]
    return torch.cat(
        (
            first * angles.cos() - second * angles.sin(),
            second * angles.cos() + first * angles.sin(),
        ),
        -1,
    )


__all__ = ["SoftplusAttention", "SoftplusConfig"]
