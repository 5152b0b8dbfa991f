"""KIVI: keys quantised per channel, values per token, the newest tokens plain.

Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", ICML 2024,
arXiv:2402.02750.

Outliers of keys sit in fixed channels, those of values do not. So keys are quantised per channel: G
consecutive tokens of a channel share zero point and scale. Values are quantised per token: G
consecutive channels of a token share them. The most recent R tokens stay in full precision.

    Q(X) = round((X - z) / s),  z = min X,  s = (max X - min X) / (2^B - 1),  X' = Q(X) s + z

Ours differs in when tokens leave the residual. The paper empties the keys' residual each time it
holds R of them, and lets the values' residual roll token by token. An entry here is a key and its
value, so both leave together: G at a time, as soon as R + G are plain. So the last R keys and
values are always exact, which the paper grants to values only. R to R + G - 1 tokens are plain,
where the paper's keys have 0 to R - 1.

Prefill attends in full precision, as in the paper. A head size that G does not divide uses, for
values, the largest divisor below G. z and s are stored in the model's dtype where it has 16 bits,
else in float16. A group of zero range has s = 0 and decodes to z.

Keys and values may have different numbers of bits, as in the authors' code (k_bits, v_bits). `bits`
sets both at once. 8 bits are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.codecs.quantised import Axis, Quantised, QuantisedEntries, group_size
from lengthwise.methods.codecs.residual import ResidualCodec
from lengthwise.methods.shares import nearest
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts

# The paper's.
BITS = 2


@dataclass(frozen=True)
class Kivi(Method):
    """Keys per channel and values per token in 2, 4 or 8 bits; 16 leaves everything as it is."""

    name: ClassVar[str] = "kivi"
    question: ClassVar[Question] = Question.CODECS
    paper: ClassVar[Paper] = Paper(
        "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache",
        "Liu et al.",
        2024,
        arxiv="2402.02750",
        venue="ICML",
        code="https://github.com/jy-yuan/KIVI",
    )
    decoding_exact: ClassVar[bool] = False
    shift_exact: ClassVar[bool] = False

    bits: int | None = option(
        None, "bits of a stored number, of keys and values alike (none: 2)", choices=(2, 4, 8, 16)
    )
    key_bits: int | None = option(None, "bits of keys alone (none: 2)", choices=(2, 4, 8))
    value_bits: int | None = option(None, "bits of values alone (none: 2)", choices=(2, 4, 8))
    group: int = option(32, "numbers that share a scale", low=1)
    residual: int = option(128, "newest tokens kept in full precision", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("key_bits", "value_bits"):
            own = getattr(self, name)
            if self.bits is not None and own not in (None, self.bits):
                raise RecipeError(
                    f"kivi: bits={self.bits} says the bits of keys and values alike, and "
                    f"{name}={own} says otherwise: leave out bits and give key_bits and value_bits"
                )

    @property
    def both(self) -> tuple[int, int]:
        """Bits of keys and of values."""
        return self.key_bits or self.bits or BITS, self.value_bits or self.bits or BITS

    @classmethod
    def identity(cls, length: int) -> Kivi:
        return cls(bits=16)

    def at_share(self, share: float, model: AdaptedModel, length: int) -> Kivi:
        plain = replace(self, key_bits=None, value_bits=None)
        settings = [replace(plain, bits=bits) for bits in (16, 8, 4, BITS)]
        # Between two numbers of bits keys get the larger one: they lose more by the smaller.
        settings += [
            replace(plain, bits=None, key_bits=bits, value_bits=bits // 2) for bits in (8, 4)
        ]
        return nearest(settings, share, model, length)

    def start_format(self, layer: LayerFacts) -> KiviCodec | None:
        return None if self.bits == 16 else KiviCodec(*self.both, self.group, self.residual)

    def bytes_per_token(self, layer: LayerFacts, dtype: torch.dtype, n: int) -> float:
        """Mean bytes of a token in this layer after a prompt of n tokens, birth ids included."""
        codec = self.start_format(layer)
        if codec is None:
            return layer.entry_numbers * dtype.itemsize + 4
        return codec.bytes_held(layer, dtype, n) / n


class KiviCodec(ResidualCodec):
    """State of one layer: none but the settings. key_axis "token" is the paper's ablation."""

    key_axis: Axis = "channel"

    def __init__(self, key_bits: int, value_bits: int, group: int, residual: int) -> None:
        super().__init__(residual, group)
        self.key_bits = key_bits
        self.value_bits = value_bits

    def close(self, entries: KVEntries) -> KiviBlock:
        channels = entries.key.shape[-1]
        group = self.step if self.key_axis == "channel" else group_size(channels, self.step)
        key = Quantised.make(entries.key, self.key_bits, self.key_axis, group)
        group = group_size(entries.value.shape[-1], self.step)
        value = Quantised.make(entries.value, self.value_bits, "token", group)
        return KiviBlock(key, value, entries.index.clone())

    def entry_bytes(self, heads: int, key: int, value: int) -> float:
        packed = math.ceil(key * self.key_bits / 8) + math.ceil(value * self.value_bits / 8)
        scales = key / self.step + value / group_size(value, self.step)
        return heads * (packed + 4 * scales) + 4


@dataclass(frozen=True)
class KiviBlock(QuantisedEntries):
    """Encoded entries."""
