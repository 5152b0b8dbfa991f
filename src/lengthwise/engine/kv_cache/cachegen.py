"""CacheGen: keys and values as quantised differences, at several levels of quality.

Liu et al., "CacheGen: KV Cache Compression and Streaming for Fast Large Language Model Serving",
SIGCOMM 2024, arXiv:2310.07240. Neighbouring tokens have similar keys and values, early layers bear
less loss than late ones, and numbers of one channel of one layer are alike:

    anchor   a: the first token of every `group`, in 256 bins
    others   d = x - a', the difference from the anchor as it decodes, in the bins of the level
    bins b   m = b/2 - 1,  s = max |x| over the channels of the token,  q = round(x m / s),
             x' = q s / m

Symbols are coded with a distribution per layer and channel (`entropy`). The released code has no
differences, which is `group=1` here. Its bins are those of 32 layers, keys 10, 10 and 12 of them,
values 2 and 30. Here they go by thirds for keys and by the first sixteenth for values. Scales are
bfloat16. Level 4 is not the paper's: the bits of the numbers, with their exponents coded.
On the embedded model level 3 with `group=1` was smaller than level 2 with anchors, and lost less.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lengthwise.engine.kv_cache.entropy import Symbols, decode, encode
from lengthwise.engine.kv_cache.frames import Frames, framed
from lengthwise.engine.kv_cache.packing import Damaged, Unstorable

LOSSLESS = 4
LEVELS = (1, 2, 3, LOSSLESS)
# Bins of keys by thirds of the layers, and of values in the first sixteenth and after it.
_BINS = {
    1: ((16, 16, 12), (16, 12)),
    2: ((32, 16, 16), (32, 16)),
    3: ((32, 32, 32), (32, 32)),
}
_ANCHOR_BINS = 256
# Few anchors fill 256 counts badly: eight neighbours share one.
_ANCHOR_SPREAD = 8
# How a number of a dtype is cut: bits right of the symbol, bits of the symbol, bytes of the rest.
_CUTS = {
    torch.bfloat16: (7, 8, 1),
    torch.float16: (8, 8, 1),
    torch.float32: (23, 8, 3),
}


@dataclass(frozen=True)
class Plane:
    """Keys or values of some heads of one layer, `[heads, n, dim]`. kind: "key" or "value"."""

    layer: int
    kind: str
    heads: int
    dim: int

    @property
    def channels(self) -> int:
        return self.heads * self.dim


@dataclass(frozen=True)
class Quality:
    """How planes are coded. level: of `LEVELS`. group: tokens of one anchor. layers: of the model.

    dtype: of the planes.
    """

    level: int
    group: int
    layers: int
    dtype: torch.dtype

    def bins(self, plane: Plane) -> int:
        """Bins of the differences of a plane.

        Args:
            plane: whose.
        """
        keys, values = _BINS[self.level]
        if plane.kind == "key":
            return keys[min(2, 3 * plane.layer // self.layers)]
        return values[plane.layer >= max(1, self.layers // 16)]

    def anchors(self, n: int) -> int:
        """Anchors among n tokens.

        Args:
            n: tokens.
        """
        return 0 if self.group == 1 else -(-n // self.group)


def encode_planes(
    tensors: list[Tensor], planes: list[Plane], quality: Quality, number: int = 0
) -> bytes:
    """A chunk of some planes as bytes.

    Args:
        tensors: a plane's entries each, `[heads, n, dim]`; n may differ, and be 0.
        planes: what they are.
        quality: how they are coded.
        number: of the chunk, so that no other is taken for it.

    Raises:
        Unstorable: for numbers that are not finite, and for dtypes that have no lossless form.
    """
    mark = _mark(quality, number)
    if quality.level == LOSSLESS:
        return framed([mark, *_lossless_frames(tensors, planes, quality.dtype)])
    scales: list[bytes] = []
    symbols: list[tuple[Symbols, _Batch]] = []
    for tensor, plane in zip(tensors, planes, strict=True):
        if not tensor.shape[1]:
            continue
        bins = quality.bins(plane)
        anchors, others, scale = _quantise(_rows(tensor), quality, bins)
        scales.append(scale)
        symbols.append((anchors, _Batch(anchors.shape[1], _ANCHOR_BINS, _ANCHOR_SPREAD)))
        symbols.append((others, _Batch(others.shape[1], bins)))
    return framed([mark, b"".join(scales), *_encoded(symbols)])


def decode_planes(
    data: bytes, planes: list[Plane], counts: list[int], quality: Quality, number: int = 0
) -> list[Tensor]:
    """The planes that `encode_planes` was given, as far as their level keeps them.

    Args:
        data: what it gave.
        planes: what they are; the caller answers for heads and channels.
        counts: tokens of each.
        quality: as it was given.
        number: as it was given.

    Returns:
        A tensor `[heads, n, dim]` each.

    Raises:
        Damaged: for bytes that no such planes were encoded into. Nothing is allocated that the
            bytes do not speak for.
    """
    frames = Frames(data)
    if frames.take() != _mark(quality, number):
        raise Damaged("a chunk stands in the place of another")
    if quality.level == LOSSLESS:
        return _lossless_planes(frames, planes, counts, quality.dtype)
    # Two bytes a token and plane are there before anything of that size is made.
    scales = torch.from_numpy(np.frombuffer(frames.take(2 * sum(counts)), "<i2").copy())
    scale_of = scales.view(torch.bfloat16).float().split(counts)
    if not scales.view(torch.bfloat16).isfinite().all():
        raise Damaged("a scale is no number")
    wanted: list[tuple[int, _Batch]] = []
    for plane, n in zip(planes, counts, strict=True):
        anchors = quality.anchors(n)
        wanted.append((plane.channels, _Batch(anchors, _ANCHOR_BINS, _ANCHOR_SPREAD)))
        wanted.append((plane.channels, _Batch(n - anchors, quality.bins(plane))))
    symbols, found = iter(_decoded(frames, wanted)), []
    for plane, n, scale in zip(planes, counts, scale_of, strict=True):
        pair = next(symbols), next(symbols)
        rows = _dequantise(*pair, scale, quality, quality.bins(plane))
        found.append(_heads(rows, plane, n).to(quality.dtype))
    frames.end()
    return found


def _mark(quality: Quality, number: int) -> bytes:
    return struct.pack("<IBI", number, quality.level, quality.group)


# Symbols of many planes that are coded together, because their rows are alike.


class _Batch(NamedTuple):
    """What symbols have in common that are coded together: how many a row, and of what."""

    n: int
    alphabet: int
    spread: int = 1


def _encoded(symbols: list[tuple[Symbols, _Batch]]) -> Iterator[bytes]:
    batches: dict[_Batch, list[Symbols]] = {}
    for each, batch in symbols:
        batches.setdefault(batch, []).append(each)
    for batch, held in batches.items():
        if batch.n:
            yield encode(np.concatenate(held), batch.alphabet, batch.spread)


def _decoded(frames: Frames, wanted: list[tuple[int, _Batch]]) -> list[Symbols]:
    """The symbols `[channels, n]` of every pair of channels and batch, in that order."""
    rows: dict[_Batch, int] = {}
    starts = []
    for channels, batch in wanted:
        starts.append(rows.get(batch, 0))
        rows[batch] = starts[-1] + channels
    found = {
        batch: decode(frames.take(), count, *batch) if batch.n else np.empty((count, 0), np.uint8)
        for batch, count in rows.items()
    }
    return [
        found[batch][start : start + channels]
        for (channels, batch), start in zip(wanted, starts, strict=True)
    ]


# Numbers to symbols and back.


def _rows(tensor: Tensor) -> Tensor:
    """`[heads, n, dim]` -> float32 `[n, heads * dim]`."""
    return tensor.detach().cpu().float().transpose(0, 1).flatten(1)


def _heads(rows: Tensor, plane: Plane, n: int) -> Tensor:
    """`[n, heads * dim]` -> `[heads, n, dim]`, in memory of its own."""
    return rows.reshape(n, plane.heads, plane.dim).transpose(0, 1).contiguous()


def _quantise(x: Tensor, quality: Quality, bins: int) -> tuple[Symbols, Symbols, bytes]:
    """x `[n, channels]` -> symbols of anchors and of others, `[channels, ..]`, and their scales."""
    if not x.isfinite().all():
        raise Unstorable("keys or values are not finite, which no level keeps but lossless")
    if quality.group == 1:
        symbols, scale = _bin(x, bins)
        return symbols[:, :0], symbols, _bytes(scale)
    first = torch.arange(len(x)) % quality.group == 0
    anchors, scale = _bin(x[first], _ANCHOR_BINS)
    base = _unbin(anchors, scale, _ANCHOR_BINS).repeat_interleave(quality.group, 0)[: len(x)]
    others, other_scale = _bin((x - base)[~first], bins)
    return anchors, others, _bytes(scale) + _bytes(other_scale)


def _dequantise(
    anchors: Symbols, others: Symbols, scale: Tensor, quality: Quality, bins: int
) -> Tensor:
    count = anchors.shape[1]
    if quality.group == 1:
        return _unbin(others, scale, bins)
    known = _unbin(anchors, scale[:count], _ANCHOR_BINS)
    rows = known.repeat_interleave(quality.group, 0)[: len(scale)]
    rows[torch.arange(len(scale)) % quality.group != 0] += _unbin(others, scale[count:], bins)
    return rows


def _bin(x: Tensor, bins: int) -> tuple[Symbols, Tensor]:
    most = bins // 2 - 1
    scale = x.abs().amax(-1).bfloat16()
    wide = scale.float()[:, None]
    symbols = x.mul(most).div_(wide.masked_fill(wide == 0, 1.0)).round_().clamp_(-most, most)
    found: Symbols = symbols.add_(most).to(torch.uint8).numpy().T
    return found, scale


def _unbin(symbols: Symbols, scale: Tensor, bins: int) -> Tensor:
    most = bins // 2 - 1
    rows = torch.from_numpy(np.ascontiguousarray(symbols.T)).float()
    return rows.sub_(most).mul_(scale.float()[:, None] / most)


def _bytes(scale: Tensor) -> bytes:
    data: NDArray[np.int16] = scale.view(torch.int16).numpy().astype("<i2")
    return data.tobytes()


# Bits to symbols and back.


def _cut_of(dtype: torch.dtype) -> tuple[int, int, int]:
    if dtype not in _CUTS:
        name = str(dtype).removeprefix("torch.")
        raise Unstorable(f"{name} has no lossless level; those of 16 and 32 bits have")
    return _CUTS[dtype]


def _integers(dtype: torch.dtype) -> type[np.unsignedinteger]:
    return np.uint32 if dtype == torch.float32 else np.uint16


def _lossless_frames(
    tensors: list[Tensor], planes: list[Plane], dtype: torch.dtype
) -> Iterator[bytes]:
    low, width, size = _cut_of(dtype)
    symbols: list[tuple[Symbols, _Batch]] = []
    for tensor, plane in zip(tensors, planes, strict=True):
        flat = tensor.detach().cpu().transpose(1, 2).reshape(plane.channels, -1).contiguous()
        signed = torch.int32 if dtype == torch.float32 else torch.int16
        bits = flat.view(signed).numpy().view(_integers(dtype)).astype(np.uint32)
        mine = (bits >> low & (1 << width) - 1).astype(np.uint8)
        symbols.append((mine, _Batch(mine.shape[1], 1 << width)))
        rest = bits & (1 << low) - 1 | bits >> (low + width) << low
        whole = np.ascontiguousarray(rest.astype("<u4")).view(np.uint8)
        yield whole.reshape(-1, 4)[:, :size].tobytes()
    yield from _encoded(symbols)


def _lossless_planes(
    frames: Frames, planes: list[Plane], counts: list[int], dtype: torch.dtype
) -> list[Tensor]:
    low, width, size = _cut_of(dtype)
    rests = [
        np.frombuffer(frames.take(plane.channels * n * size), np.uint8).reshape(-1, size)
        for plane, n in zip(planes, counts, strict=True)
    ]
    batches = [
        (plane.channels, _Batch(n, 1 << width)) for plane, n in zip(planes, counts, strict=True)
    ]
    found = []
    for raw, mine, plane in zip(rests, _decoded(frames, batches), planes, strict=True):
        whole = np.zeros((len(raw), 4), np.uint8)
        whole[:, :size] = raw
        rest = whole.view("<u4").reshape(mine.shape).astype(np.uint32)
        high = rest >> low << (low + width)
        bits = rest & (1 << low) - 1 | mine.astype(np.uint32) << low | high
        signed = np.int32 if dtype == torch.float32 else np.int16
        numbers = torch.from_numpy(bits.astype(_integers(dtype)).view(signed)).view(dtype)
        shaped = numbers.reshape(plane.heads, plane.dim, -1).transpose(1, 2)
        found.append(shaped.contiguous())
    frames.end()
    return found


__all__ = ["LEVELS", "LOSSLESS", "Plane", "Quality", "decode_planes", "encode_planes"]
