"""KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache (Liu et al., 2024,
arXiv 2402.02750).

Outliers of keys sit in fixed channels, those of values do not. So keys are quantised per channel
(G consecutive tokens of a channel share zero point and scale), values per token (G consecutive
channels of a token do), and the most recent R tokens stay in full precision.

    Q(X) = round((X - z) / s),  z = min X,  s = (max X - min X) / (2^B - 1),  X' = Q(X) s + z

Ours differs in when tokens leave the residual. The paper empties the keys' residual each time it
holds R of them and lets the values' residual roll token by token. An entry here is a key and its
value, so both leave together, G at a time as soon as R + G are plain: the last R keys and values
are always exact, which the paper grants to values only, and R to R + G - 1 tokens are plain where
its keys have 0 to R - 1. Prefill attends in full precision, as in the paper. Head sizes that G does
not divide use the largest divisor below it for values. z and s are stored in the model's dtype
where it has 16 bits, else in float16. A group of zero range has s = 0 and decodes to z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.entries import Entries
from lengthwise.methods.base import Method, Question, option
from lengthwise.methods.codecs.quantised import Axis, Quantised, group_size
from lengthwise.methods.codecs.residual import ResidualCodec, join_index
from lengthwise.models.probe import LayerFacts


@dataclass(frozen=True)
class Kivi(Method):
    """Keys per channel and values per token in 2 or 4 bits; 16 bits leaves everything as it is."""

    name: ClassVar[str] = "kivi"
    question: ClassVar[Question] = Question.CODECS
    paper: ClassVar[str] = (
        "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache (arXiv 2402.02750)"
    )
    decoding_exact: ClassVar[bool] = False
    shift_exact: ClassVar[bool] = False

    bits: int = option(2, "bits of a stored number", choices=(2, 4, 16))
    group: int = option(32, "numbers that share a scale", low=1)
    residual: int = option(128, "newest tokens kept in full precision", low=1)

    @classmethod
    def identity(cls, length: int) -> Kivi:
        return cls(bits=16)

    def start_codec(self, layer: LayerFacts) -> KiviCodec | None:
        if self.bits == 16:
            return None
        return KiviCodec(self.bits, self.group, self.residual)

    def bytes_per_token(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        """Mean bytes of a token in this layer after a prompt of n tokens, birth ids included."""
        plain = layer.entry_numbers * dtype.itemsize + 4
        if self.bits == 16:
            return plain
        closed = KiviCodec(self.bits, self.group, self.residual).encoded(n)
        width = sum(math.ceil(size * self.bits / 8) for size in (layer.head_dim, layer.value_dim))
        scales = layer.head_dim / self.group
        scales += layer.value_dim / group_size(layer.value_dim, self.group)
        held = closed * (layer.num_kv_heads * (width + 4 * scales) + 4)
        return (held + (self.group + self.residual if closed else n) * plain) / n


class KiviCodec(ResidualCodec):
    """State of one layer: none but the settings. key_axis "token" is the paper's ablation."""

    key_axis: Axis = "channel"

    def __init__(self, bits: int, group: int, residual: int) -> None:
        super().__init__(residual, group)
        self.bits = bits

    def close(self, entries: Entries) -> KiviBlock:
        channels = entries.key.shape[-1]
        group = self.step if self.key_axis == "channel" else group_size(channels, self.step)
        key = Quantised.make(entries.key, self.bits, self.key_axis, group)
        group = group_size(entries.value.shape[-1], self.step)
        value = Quantised.make(entries.value, self.bits, "token", group)
        return KiviBlock(key, value, entries.index.clone())


@dataclass(frozen=True)
class KiviBlock:
    """Encoded entries: key and value as bytes, index int32 `[1 or heads, n]`."""

    key: Quantised
    value: Quantised
    index: Tensor

    def __len__(self) -> int:
        return self.index.shape[1]

    def tensors(self) -> list[Tensor]:
        return [*self.key.tensors(), *self.value.tensors(), self.index]

    def join(self, newer: KiviBlock) -> KiviBlock:
        index = join_index(self.index, newer.index)
        return KiviBlock(self.key.join(newer.key), self.value.join(newer.value), index)

    def decode(self) -> Entries:
        return Entries(self.key.decode(), self.value.decode(), self.index)
