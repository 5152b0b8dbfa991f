"""URPE: weights of attention times a learned matrix of distances, after the softmax.

Luo et al., "Your Transformer May Not be as Powerful as You Expect", NeurIPS 2022, arXiv:2205.13401.

A bias inside the softmax cannot tell positions of equal tokens, whose rows of weights always sum to
one. A factor behind it can.

    A = softmax(q k^T / sqrt(d) + b)     O = (A * C) V,  C_ij = c_h[i - j], learned, 1 at first

There is no second normalisation. b is ALiBi's or nothing. Distances beyond the table take its last
number, which the paper leaves open.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lengthwise.architectures.decoder import Attention, Decoder, DecoderConfig
from lengthwise.architectures.position_schemes import slopes


class URPEConfig(DecoderConfig):
    """distances: numbers in the table of a head. scaled: False leaves C at 1, which is attention
    with its bias alone. bias: "none" or "alibi"."""

    model_type = "urpe"

    def __init__(
        self, distances: int = 128, scaled: bool = True, bias: str = "alibi", **sizes: Any
    ) -> None:
        if bias not in ("none", "alibi") or distances < 1:
            raise ValueError(
                f"bias={bias!r}, distances={distances}: bias is none or alibi, and distances 1 or "
                "more"
            )
        self.distances, self.scaled, self.bias = distances, scaled, bias
        super().__init__(**sizes)


class URPEAttention(Attention):
    """Attention with a factor for each distance behind its softmax."""

    def __init__(self, config: URPEConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.factors = nn.Parameter(
            torch.ones(config.num_attention_heads, config.distances), requires_grad=config.scaled
        )

    def logits(self, query: Tensor, key: Tensor, distance: Tensor, positions: Tensor) -> Tensor:
        found, config = super().logits(query, key, distance, positions), self.config
        if getattr(config, "bias", "") != "alibi":
            return found
        return found - slopes(query.shape[1], query.device)[:, None, None] * distance

    def weighted(self, weights: Tensor, distance: Tensor) -> Tensor:
        within = distance[:, 0].clamp(0, self.factors.shape[1] - 1)
        return weights * self.factors[:, within].transpose(0, 1)


class URPE(Decoder):
    """The decoder with URPE."""

    config_class = URPEConfig
    attention = URPEAttention


__all__ = ["URPE", "URPEConfig"]
