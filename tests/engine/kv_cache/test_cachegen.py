"""Planes come back as their level promises; chunks that are damaged are refused."""

from __future__ import annotations

import struct
import zlib

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from lengthwise.engine.kv_cache.cachegen import (
    LEVELS,
    LOSSLESS,
    Plane,
    Quality,
    decode_planes,
    encode_planes,
)
from lengthwise.engine.kv_cache.frames import Frames, framed
from lengthwise.engine.kv_cache.packing import Damaged, Unstorable

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
PLANES = [Plane(layer, kind, 2, 4) for layer in range(6) for kind in ("key", "value")]


def entries(n: int, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """Keys and values whose neighbours are alike, as those of a text are."""
    drawn = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(2, 1, 4, generator=drawn) * 3 + torch.randn(2, n, 4, generator=drawn)).to(
            dtype
        )
        for _ in PLANES
    ]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", [1, 9, 10, 11, 64])
def test_the_lossless_level_gives_back_every_bit(n: int, dtype: torch.dtype) -> None:
    held, quality = entries(n, dtype), Quality(LOSSLESS, 10, 6, dtype)
    held[0][0, 0, 0], held[1][1, 0, 2] = float("inf"), -0.0
    back = decode_planes(encode_planes(held, PLANES, quality), PLANES, [n] * 12, quality)
    for mine, theirs in zip(held, back, strict=True):
        assert mine.dtype == theirs.dtype and torch.equal(mine, theirs)
        assert torch.equal(mine.signbit(), theirs.signbit())


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 10]), st.integers(1, 33),
    st.integers(0, 1000),
)  # fmt: skip
def test_lossy_levels_stay_within_half_a_bin(level: int, group: int, n: int, seed: int) -> None:
    held, quality = entries(n, torch.float32, seed), Quality(level, group, 6, torch.float32)
    back = decode_planes(encode_planes(held, PLANES, quality), PLANES, [n] * 12, quality)
    for mine, theirs, plane in zip(held, back, PLANES, strict=True):
        assert mine.shape == theirs.shape
        # An anchor's difference is at most twice the largest number, and scales are rounded.
        most = mine.abs().max() * (1 if group == 1 else 2)
        bin_size = most / (quality.bins(plane) // 2 - 1)
        assert float((mine - theirs).abs().max()) <= float(0.52 * bin_size + 0.01 * most)


def test_better_levels_lose_less_and_take_more() -> None:
    held, sizes, errors = entries(200, torch.bfloat16), [], []
    for level in LEVELS:
        quality = Quality(level, 10, 6, torch.bfloat16)
        data = encode_planes(held, PLANES, quality)
        back = decode_planes(data, PLANES, [200] * 12, quality)
        sizes.append(len(data))
        errors.append(
            sum(float((a - b).float().square().sum()) for a, b in zip(held, back, strict=True))
        )
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True)
    assert errors[-1] == 0 and errors[-2] > 0


def test_bins_of_the_released_code_at_its_32_layers() -> None:
    def bins(level: int, kind: str) -> list[int]:
        quality = Quality(level, 10, 32, torch.bfloat16)
        return [quality.bins(Plane(layer, kind, 1, 2)) for layer in range(32)]

    assert bins(2, "value") == [32] * 2 + [16] * 30
    assert bins(1, "value") == [16] * 2 + [12] * 30
    assert bins(3, "key") == bins(3, "value") == [32] * 32
    # Thirds of 32, where the code counts 10 layers, 10 and 12.
    assert bins(1, "key") == [16] * 22 + [12] * 10
    assert bins(2, "key") == [32] * 11 + [16] * 21


def test_constant_and_zero_tokens_come_back() -> None:
    held = [torch.zeros(2, 12, 4) for _ in PLANES]
    held[3] += 2.0
    for level in LEVELS:
        quality = Quality(level, 10, 6, torch.float32)
        back = decode_planes(encode_planes(held, PLANES, quality), PLANES, [12] * 12, quality)
        for mine, theirs in zip(held, back, strict=True):
            assert torch.allclose(mine, theirs, atol=0.01)


def test_planes_of_unequal_lengths_come_back() -> None:
    counts = [0, 3, 40, 3, 11, 1, 0, 40, 10, 20, 30, 40]
    held = [t[:, :n] for t, n in zip(entries(40, torch.bfloat16), counts, strict=True)]
    for level in LEVELS:
        quality = Quality(level, 10, 6, torch.bfloat16)
        back = decode_planes(encode_planes(held, PLANES, quality), PLANES, counts, quality)
        assert [tuple(t.shape) for t in back] == [(2, n, 4) for n in counts]
        if level == LOSSLESS:
            assert all(torch.equal(a, b) for a, b in zip(held, back, strict=True))


def test_what_has_no_such_form_is_refused() -> None:
    held = entries(8, torch.float32)
    held[2][0, 3, 1] = float("nan")
    with pytest.raises(Unstorable, match="not finite"):
        encode_planes(held, PLANES, Quality(2, 10, 6, torch.float32))
    wide = [t.double() for t in entries(8, torch.float32)]
    with pytest.raises(Unstorable, match="float64 has no lossless level"):
        encode_planes(wide, PLANES, Quality(LOSSLESS, 10, 6, torch.float64))


@pytest.mark.parametrize("level", LEVELS)
def test_damaged_chunks_are_refused(level: int) -> None:
    quality = Quality(level, 10, 6, torch.bfloat16)
    data = encode_planes(entries(20, torch.bfloat16), PLANES, quality)
    for bad in (b"", data[:3], data[:40], data[:-1], data + b"x", b"\x01" + data[1:]):
        with pytest.raises(Damaged, match="not what was written"):
            decode_planes(bad, PLANES, [20] * 12, quality)
    for level_, group in ((level, 9), (level % 4 + 1, 10)):
        other = Quality(level_, group, 6, torch.bfloat16)
        with pytest.raises(Damaged, match="in the place of another"):
            decode_planes(data, PLANES, [20] * 12, other)
    with pytest.raises(Damaged, match="in the place of another"):
        decode_planes(data, PLANES, [20] * 12, quality, 1)
    # With the right checksum, and another number of tokens than it says.
    for counts in ([19] * 12, [21] * 12, [10**9] * 12, [20] * 11 + [0]):
        with pytest.raises(Damaged):
            decode_planes(data, PLANES, counts, quality)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=200), max_size=6), st.sampled_from(LEVELS))
def test_hostile_chunks_are_refused(pieces: list[bytes], level: int) -> None:
    quality = Quality(level, 10, 6, torch.bfloat16)
    mark = Frames(encode_planes(entries(1, torch.bfloat16), PLANES, quality)).take()
    with pytest.raises(Damaged):
        decode_planes(framed([mark, *pieces]), PLANES, [20] * 12, quality)


def test_frames_say_their_lengths() -> None:
    frames = Frames(framed([b"ab", b"", b"c"]))
    assert [frames.take(2), frames.take(), frames.take(1)] == [b"ab", b"", b"c"]
    frames.end()
    with pytest.raises(Damaged, match="ends early"):
        frames.take()
    frames = Frames(framed([b"ab", b"c"]))
    with pytest.raises(Damaged, match="another size"):
        frames.take(3)
    frames.take()
    with pytest.raises(Damaged, match="more than its entries"):
        frames.end()
    body = struct.pack("<I", 1 << 31) + b"abc"
    with pytest.raises(Damaged, match="another size"):
        Frames(struct.pack("<I", zlib.crc32(body)) + body).take()
