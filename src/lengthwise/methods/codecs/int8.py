"""int8: keys and values in 8 bits with one scale per token and head, the plain baseline of codecs.

    s = max |x| / 127,  q = round(x / s),  x' = s q

Here x is one token's key, or one token's value, over its channels. The scheme is the symmetric one
of Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, arXiv:1712.05877. No paper is about this very use of it.

Symmetric numbers need one scale per vector and no zero point. The newest `residual` tokens stay
plain, and older ones are encoded 32 at a time. A scale needs no group of tokens. But a draft must
not cross an encoding, and with one at every step drafting would be impossible. Scales are stored in
the model's dtype where it has 16 bits, else in float16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.kernels.part import Coded, Codes
from lengthwise.engine.kv_cache.entries import KVEntries, pick
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.codecs.residual import ResidualCodec, join_index, to_scale
from lengthwise.methods.shares import nearest
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

# Tokens encoded at a time.
STEP = 32


@dataclass(frozen=True)
class Int8(Method):
    """Keys and values in 8 bits; a residual of at least the length leaves them as they are."""

    name: ClassVar[str] = "int8"
    question: ClassVar[Question] = Question.CODECS
    paper: ClassVar[Paper] = Paper(
        "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only "
        "Inference",
        "Jacob et al.",
        2018,
        arxiv="1712.05877",
        venue="CVPR",
    )
    decoding_exact: ClassVar[bool] = False
    shift_exact: ClassVar[bool] = False
    deletable: ClassVar[bool] = True

    residual: int = option(32, "newest tokens kept in full precision", low=1)

    @classmethod
    def identity(cls, length: int) -> Int8:
        return cls(residual=length)

    def at_share(self, share: float, model: AdaptedModel, length: int) -> Int8:
        return nearest([self, replace(self, residual=length)], share, model, length)

    def start_format(self, layer: LayerFacts) -> Int8Codec:
        return Int8Codec(self.residual, STEP)

    def bytes_per_token(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        """Mean bytes of a token in this layer after a prompt of n tokens, birth ids included."""
        return self.start_format(layer).bytes_held(layer, dtype, n) / n


class Int8Codec(ResidualCodec):
    """State of one layer: none but the settings."""

    def close(self, entries: KVEntries) -> Int8Block:
        key, key_scale = quantise(entries.key)
        value, value_scale = quantise(entries.value)
        index = entries.index.clone()
        return Int8Block(key, key_scale, value, value_scale, index, entries.key.dtype)

    def entry_bytes(self, heads: int, key: int, value: int) -> float:
        # A byte a number, two bytes each for the scales of key and value.
        return heads * (key + value + 4) + 4


def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
    """x `[heads, n, channels]` -> int8 of that shape and scales `[heads, n, 1]`."""
    wide = x.float()
    scale = to_scale(wide.abs().amax(-1, keepdim=True) / 127, x.dtype)
    step = scale.float()
    codes = wide.div(step.masked_fill(step == 0, 1.0)).round_().clamp_(-127, 127)
    return codes.to(torch.int8), scale


@dataclass(frozen=True)
class Int8Block:
    """Encoded: int8 `[heads, n, channels]`, scales `[heads, n, 1]`, index as in KVEntries."""

    key: Tensor
    key_scale: Tensor
    value: Tensor
    value_scale: Tensor
    index: Tensor
    dtype: torch.dtype

    def __len__(self) -> int:
        return self.index.shape[1]

    def tensors(self) -> list[Tensor]:
        return [self.key, self.key_scale, self.value, self.value_scale, self.index]

    def join(self, newer: Int8Block) -> Int8Block:
        return Int8Block(
            torch.cat([self.key, newer.key], 1),
            torch.cat([self.key_scale, newer.key_scale], 1),
            torch.cat([self.value, newer.value], 1),
            torch.cat([self.value_scale, newer.value_scale], 1),
            join_index(self.index, newer.index),
            self.dtype,
        )

    def take(self, ids: Tensor) -> Int8Block:
        key, key_scale, value, value_scale, index = (pick(t, ids) for t in self.tensors())
        return Int8Block(key, key_scale, value, value_scale, index, self.dtype)

    def decode(self) -> KVEntries:
        value = self.value.to(self.dtype).mul_(self.value_scale.to(self.dtype))
        return KVEntries(self.decode_keys(), value, self.index)

    def decode_some(self, ids: Tensor) -> KVEntries:
        return self.take(ids).decode()

    def decode_keys(self) -> Tensor:
        return self.key.to(self.dtype).mul_(self.key_scale.to(self.dtype))

    def read(self, query: Tensor) -> Coded:
        key, value = (
            Codes(x, scale, None, 8, 1, x.shape[-1], x.shape[-1])
            for x, scale in ((self.key, self.key_scale), (self.value, self.value_scale))
        )

        def decoded() -> tuple[Tensor, Tensor]:
            entries = self.decode()
            return entries.key, entries.value

        return Coded(query, key, value, decoded)
