"""One decoder under six position schemes, to compare how they generalise to longer texts.

Kazemnejad et al., "The Impact of Positional Encoding on Length Generalization in Transformers",
NeurIPS 2023, arXiv:2305.19466. i is the query's position, j <= i the key's, h one of H heads.

    none        logit q . k / sqrt(d): the causal mask alone tells positions (NoPE)
    alibi       logit - m_h (i - j),  m_h = 2^(-8 h / H)
    t5          logit + b_h[bucket(i - j)], learned, one table for all layers
    rotary      q and k turned by i and j in a quarter of their channels, or more; base 10,000
    sinusoidal  embedding + sines of i
    learned     embedding + a row of a table

Buckets of T5: 32, the first half of single distances, the rest by their logarithm up to 128. The
paper has T5's attention without 1 / sqrt(d), and so a scale that weights absorb; here all schemes
have it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lengthwise.architectures.decoder import Attention, Decoder, DecoderConfig

SCHEMES = ("none", "alibi", "t5", "rotary", "sinusoidal", "learned")
BASE, ROTATED = 10_000.0, 0.25
BUCKETS, FARTHEST = 32, 128


class PositionSchemesConfig(DecoderConfig):
    """scheme: one of SCHEMES. partial_rotary_factor: the share of channels that `rotary` turns; a
    quarter is the paper's."""

    model_type = "position_schemes"

    def __init__(
        self, scheme: str = "none", partial_rotary_factor: float = ROTATED, **sizes: Any
    ) -> None:
        if scheme not in SCHEMES:
            raise ValueError(f"scheme={scheme!r} is none of {', '.join(SCHEMES)}")
        if not 0 < partial_rotary_factor <= 1:
            raise ValueError(
                f"partial_rotary_factor={partial_rotary_factor}: above 0 and at most 1"
            )
        self.scheme, self.partial_rotary_factor = scheme, partial_rotary_factor
        super().__init__(**sizes)


class SchemeAttention(Attention):
    """Attention whose logits know positions by `config.scheme`, or by the mask alone."""

    # Of the model, which owns it.
    table: nn.Embedding | None = None

    def logits(self, query: Tensor, key: Tensor, distance: Tensor, positions: Tensor) -> Tensor:
        config: Any = self.config
        if config.scheme == "rotary":
            share = config.partial_rotary_factor
            query, key = (rotated(x, positions, share) for x in (query, key))
        found = super().logits(query, key, distance, positions)
        if config.scheme == "alibi":
            return found - slopes(query.shape[1], query.device)[:, None, None] * distance
        if config.scheme == "t5":
            assert self.table is not None
            bias: Tensor = self.table(bucket(distance[:, 0]))
            return found + bias.permute(0, 3, 1, 2)
        return found


class PositionSchemes(Decoder):
    """The decoder under one scheme."""

    config_class = PositionSchemesConfig
    attention = SchemeAttention

    def __init__(self, config: PositionSchemesConfig) -> None:
        super().__init__(config)
        if config.scheme == "t5":
            self.bias = nn.Embedding(BUCKETS, config.num_attention_heads)
            for layer in self.layers:
                # Not registered again: one table, of the model.
                object.__setattr__(layer.attention, "table", self.bias)
        if config.scheme == "learned":
            self.places = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        found = super().embedded(ids, positions)
        config: Any = self.config
        if config.scheme == "learned":
            found = found + self.places(positions)
        elif config.scheme == "sinusoidal":
            # As long as an embedding is when weights are drawn.
            found = found + sines(positions, config.hidden_size) * config.initializer_range
        return found


def slopes(heads: int, device: torch.device | None = None) -> Tensor:
    """m_h of ALiBi, float32 `[heads]`, the steepest first."""
    return 2.0 ** (-8.0 * torch.arange(1, heads + 1, device=device) / heads)


def bucket(distance: Tensor) -> Tensor:
    """The row of T5's table for a distance i - j, int64; what is not seen counts as 0."""
    distance = distance.clamp_min(0)
    exact = BUCKETS // 2
    share = (distance.clamp_min(1) / exact).log() / math.log(FARTHEST / exact)
    far = exact + (share * (BUCKETS - exact)).long()
    return torch.where(distance < exact, distance, far.clamp_max(BUCKETS - 1))


def rotated(x: Tensor, positions: Tensor, share: float = ROTATED) -> Tensor:
    """x `[rows, heads, n, head_dim]`, the first share of its channels turned pair by pair by
    positions `[rows, n]`."""
    pairs = max(1, int(x.shape[-1] * share) // 2)
    speed = BASE ** -(torch.arange(pairs, device=x.device) / pairs)
    angles = positions[:, None, :, None] * speed
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., 0 : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2]
    turned = torch.stack((first * cos - second * sin, second * cos + first * sin), -1)
    return torch.cat((turned.flatten(-2), x[..., 2 * pairs :]), -1)


def sines(positions: Tensor, size: int) -> Tensor:
    """`[rows, n, size]`: sine and cosine by turns, of wavelengths from 2 pi to 10,000 times it."""
    speed = BASE ** -(torch.arange(0, size, 2, device=positions.device) / size)
    angles = positions[..., None] * speed
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)[..., :size]


__all__ = ["PositionSchemes", "PositionSchemesConfig", "SCHEMES"]
