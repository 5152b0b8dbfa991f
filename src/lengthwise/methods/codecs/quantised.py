"""Asymmetric quantisation to 2, 4 or 8 bits, really packed, along channels or along tokens.

For a group of numbers x:

    minimum = min(x),  scale = (max(x) - minimum) / (2^bits - 1)
    code = round((x - minimum) / scale),  decoded = minimum + scale * code

The error is at most half a scale, and what storing in 16 bits costs. Codes of neighbouring channels
share a byte. So a token's codes are contiguous, and joining blocks of tokens is a concatenation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor

from lengthwise.engine.kernels.part import Coded, Codes
from lengthwise.engine.kv_cache.entries import KVEntries, pick
from lengthwise.methods.codecs.residual import join_index, to_scale

Axis = Literal["channel", "token"]


def pack(codes: Tensor, bits: int) -> Tensor:
    """uint8 codes `[..., channels]` below 2^bits -> bytes `[..., ceil(channels * bits / 8)]`."""
    each = 8 // bits
    short = -codes.shape[-1] % each
    if short:
        codes = torch.nn.functional.pad(codes, (0, short))
    codes = codes.unflatten(-1, (-1, each))
    packed = codes[..., 0].clone(memory_format=torch.contiguous_format)
    for place in range(1, each):
        packed |= codes[..., place] << (bits * place)
    return packed


def unpack(packed: Tensor, bits: int, channels: int) -> Tensor:
    """Undoes `pack`: uint8 `[..., channels]`.

    A byte is widened to the integer that has a byte for each of its codes. Shifts within that
    integer move the codes apart. Both are vector instructions. A table, or a shift by place, would
    go element by element.
    """
    if bits == 8:
        return packed[..., :channels]
    if bits == 4:
        wide = packed.to(torch.int16)
        wide.bitwise_or_(wide << 4).bitwise_and_(0x0F0F)
    else:
        # Multiplying by 1 + 2^s is `x | x << s` where the two do not overlap.
        wide = packed.to(torch.int32)
        wide.mul_(0x1001).bitwise_and_(0x000F000F).mul_(0x41).bitwise_and_(0x03030303)
    return wide.view(torch.uint8)[..., :channels]


def group_size(size: int, group: int) -> int:
    """The largest divisor of `size` channels that is at most `group`."""
    return next(g for g in range(min(group, size), 0, -1) if size % g == 0)


@dataclass(frozen=True)
class Quantised:
    """x `[heads, n, channels]` as bytes.

    axis "channel": `group` consecutive tokens of one channel share a scale, `[heads, n / group, 1,
    channels]`. axis "token": `group` consecutive channels of one token share one, `[heads, n,
    channels / group, 1]`.
    """

    packed: Tensor
    scale: Tensor
    minimum: Tensor
    bits: int
    axis: Axis
    group: int
    channels: int
    dtype: torch.dtype

    @classmethod
    def make(cls, x: Tensor, bits: int, axis: Axis, group: int) -> Quantised:
        """axis "channel" needs n to be a multiple of group, "token" the channels to be one."""
        grouped = _grouped(x.float(), axis, group)
        dim = 2 if axis == "channel" else 3
        levels = 2**bits - 1
        # Codes are made for the rounded minimum and scale, the ones they are decoded with.
        minimum = to_scale(grouped.amin(dim, keepdim=True), x.dtype)
        span = grouped.amax(dim, keepdim=True) - minimum.float()
        scale = to_scale(span.clamp_min_(0.0).div_(levels), x.dtype)
        step = scale.float()
        codes = (grouped - minimum.float()).div_(step.masked_fill(step == 0, 1.0))
        codes = codes.round_().clamp_(0, levels).to(torch.uint8).reshape(x.shape)
        return cls(pack(codes, bits), scale, minimum, bits, axis, group, x.shape[-1], x.dtype)

    def tensors(self) -> list[Tensor]:
        return [self.packed, self.scale, self.minimum]

    def join(self, newer: Quantised) -> Quantised:
        pairs = zip(self.tensors(), newer.tensors(), strict=True)
        packed, scale, minimum = (torch.cat(pair, 1) for pair in pairs)
        return replace(self, packed=packed, scale=scale, minimum=minimum)

    def slice(self, start: int, stop: int) -> Quantised:
        """Some of the tokens, in memory of their own: whole groups of them."""
        each = 1 if self.axis == "token" else self.group
        packed = self.packed[:, start:stop].clone()
        scale, minimum = (
            x[:, start // each : stop // each].clone() for x in (self.scale, self.minimum)
        )
        return replace(self, packed=packed, scale=scale, minimum=minimum)

    def some(self, ids: Tensor) -> Quantised:
        """Some of the tokens, int64 `[m]` or `[heads, m]`, each with the scales of its group."""
        by_token = self.axis == "token"
        place = ids if by_token else ids // self.group
        scale, minimum = (pick(x, place) for x in (self.scale, self.minimum))
        group = self.group if by_token else 1
        return replace(
            self, packed=pick(self.packed, ids), scale=scale, minimum=minimum, group=group
        )

    def codes(self) -> Codes:
        """The same as kernels read it."""
        by_token = self.axis == "token"
        scale, minimum = (x.squeeze(3 if by_token else 2) for x in (self.scale, self.minimum))
        tokens, each = (1, self.group) if by_token else (self.group, 1)
        return Codes(self.packed, scale, minimum, self.bits, tokens, each, self.channels)

    def decode(self) -> Tensor:
        """The numbers `[heads, n, channels]` in the dtype they had."""
        codes = unpack(self.packed, self.bits, self.channels).to(self.dtype)
        grouped = _grouped(codes, self.axis, self.group)
        scale, minimum = self.scale.to(self.dtype), self.minimum.to(self.dtype)
        if self.axis == "channel":
            return torch.addcmul(minimum, grouped, scale).reshape(codes.shape)
        # addcmul is slow where a whole row shares one scale.
        return grouped.mul_(scale).add_(minimum).reshape(codes.shape)


@dataclass(frozen=True)
class QuantisedEntries:
    """Encoded entries: key and value as bytes, index int32 `[1 or heads, n]`."""

    key: Quantised
    value: Quantised
    index: Tensor

    def __len__(self) -> int:
        return self.index.shape[1]

    def tensors(self) -> list[Tensor]:
        return [*self.key.tensors(), *self.value.tensors(), self.index]

    def join(self, newer: Self) -> Self:
        index = join_index(self.index, newer.index)
        return type(self)(self.key.join(newer.key), self.value.join(newer.value), index)

    def slice(self, start: int, stop: int) -> Self:
        """Some of the entries, in memory of their own: whole groups of them."""
        key, value = (each.slice(start, stop) for each in (self.key, self.value))
        return type(self)(key, value, self.index[:, start:stop].clone())

    def decode(self) -> KVEntries:
        return KVEntries(self.key.decode(), self.value.decode(), self.index)

    def decode_some(self, ids: Tensor) -> KVEntries:
        key, value = (each.some(ids).decode() for each in (self.key, self.value))
        return KVEntries(key, value, pick(self.index, ids))

    def decode_keys(self) -> Tensor:
        return self.key.decode()

    def read(self, query: Tensor) -> Coded:
        return Coded(
            query, self.key.codes(), self.value.codes(),
            lambda: (self.key.decode(), self.value.decode()),
        )  # fmt: skip


def _grouped(x: Tensor, axis: Axis, group: int) -> Tensor:
    heads, n, channels = x.shape
    if axis == "channel":
        return x.reshape(heads, n // group, group, channels)
    return x.reshape(heads, n, channels // group, group)
