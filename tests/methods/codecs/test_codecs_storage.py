"""Codecs and numbers: packing is exact, errors are bounded, removed channels read as zero."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.errors import LengthwiseError
from lengthwise.methods.codecs.int8 import quantise
from lengthwise.methods.codecs.kivi import KiviCodec
from lengthwise.methods.codecs.pruned import PlainBlock, PrunedBlock, narrow
from lengthwise.methods.codecs.quantised import Quantised, group_size, pack, unpack

DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16])
BITS = st.sampled_from([2, 4, 8])
SEED = st.integers(0, 2**31)


def numbers(
    heads: int, n: int, channels: int, seed: int, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(heads, n, channels, generator=generator)
    return (x * 3 + torch.randn(heads, 1, channels, generator=generator) * 5).to(dtype)


def entries(key: torch.Tensor, value: torch.Tensor) -> KVEntries:
    return KVEntries(key, value, torch.arange(key.shape[1])[None].int())


def rounding(x: torch.Tensor) -> float:
    """What storing the ends of a range and one product in 16 bits can cost."""
    store = x.dtype if x.dtype.itemsize == 2 else torch.float16
    return float(4 * torch.finfo(store).eps * x.float().abs().max())


@settings(deadline=None)
@given(BITS, st.integers(1, 3), st.integers(1, 9), st.integers(1, 70), SEED)
def test_packing_is_exact_for_all_shapes(
    bits: int, heads: int, n: int, channels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**bits, (heads, n, channels), generator=generator).to(torch.uint8)
    packed = pack(codes, bits)
    assert packed.shape == (heads, n, -(-channels * bits // 8))
    assert torch.equal(unpack(packed, bits, channels), codes)


@settings(deadline=None)
@given(BITS, DTYPES, st.sampled_from(["channel", "token"]), st.integers(1, 4), SEED)
def test_quantisation_is_off_by_at_most_half_a_scale(
    bits: int, dtype: torch.dtype, axis: str, groups: int, seed: int
) -> None:
    x = numbers(2, 8 * groups, 24, seed, dtype)
    stored = Quantised.make(x, bits, axis, 8)
    error = (stored.decode().float() - x.float()).abs()
    half = stored.scale.float() / 2
    shape = (2, groups, 8, 24) if axis == "channel" else (2, 8 * groups, 3, 8)
    assert stored.decode().dtype == dtype
    assert bool((error.reshape(shape) <= half + rounding(x)).all())


@settings(deadline=None)
@given(DTYPES, SEED)
def test_int8_is_off_by_at_most_half_a_scale(dtype: torch.dtype, seed: int) -> None:
    x = numbers(2, 7, 24, seed, dtype)
    codes, scale = quantise(x)
    error = (codes.to(dtype) * scale.to(dtype)).float() - x.float()
    assert bool((error.abs() <= scale.float() / 2 + rounding(x)).all())


@pytest.mark.parametrize("value", [0.0, 0.5, -3.0])
@pytest.mark.parametrize("axis", ["channel", "token"])
def test_a_group_without_range_comes_back_as_it_was(value: float, axis: str) -> None:
    x = torch.full((2, 32, 16), value)
    assert torch.equal(Quantised.make(x, 2, axis, 16).decode(), x)
    codes, scale = quantise(x)
    assert torch.allclose(codes * scale.float(), x, rtol=1e-3)


@settings(deadline=None)
@given(BITS, st.sampled_from(["channel", "token"]), st.integers(1, 3), st.integers(1, 3), SEED)
def test_joined_blocks_decode_as_they_would_apart(
    bits: int, axis: str, first: int, second: int, seed: int
) -> None:
    old = Quantised.make(numbers(2, 8 * first, 24, seed), bits, axis, 8)
    new = Quantised.make(numbers(2, 8 * second, 24, seed + 1), bits, axis, 8)
    both = torch.cat([old.decode(), new.decode()], 1)
    assert torch.equal(old.join(new).decode(), both)


@given(st.integers(1, 512), st.integers(1, 64))
def test_groups_of_channels_are_the_largest_that_divide(size: int, group: int) -> None:
    found = group_size(size, group)
    assert size % found == 0 and found <= group
    assert all(size % larger for larger in range(found + 1, min(size, group) + 1))


def test_numbers_beyond_the_scales_are_refused() -> None:
    with pytest.raises(LengthwiseError, match="load the model in bfloat16"):
        Quantised.make(torch.full((1, 32, 32), 1e6), 2, "token", 32)


def test_keys_with_outlier_channels_need_scales_per_channel() -> None:
    key = numbers(2, 128, 64, 0)
    key[..., 5] = key[..., 5] * 4 + 40
    key[..., 40] = key[..., 40] * 4 - 60
    query = numbers(2, 16, 64, 1)
    codec = KiviCodec(2, 2, 32, 0)
    exact = query @ key.transpose(1, 2)

    def logit_error(axis: str) -> float:
        codec.key_axis = axis
        stored = codec.close(entries(key, key)).decode().key
        return float((query @ stored.transpose(1, 2) - exact).square().mean())

    assert logit_error("channel") < 0.1 * logit_error("token")


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 32), DTYPES, SEED)
def test_removed_channels_give_the_logits_of_the_kept_ones(
    n: int, count: int, dtype: torch.dtype, seed: int
) -> None:
    key = numbers(3, n, 32, seed, dtype)
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(3, 32, generator=generator).topk(count).indices.sort().values
    block = PlainBlock.make(narrow(entries(key, key), kept))
    full = PrunedBlock(block, kept, 32).decode().key
    assert block.key.shape == (3, n, count)
    for head in range(3):
        mask = torch.zeros(32, dtype=torch.bool)
        mask[kept[head]] = True
        assert torch.equal(full[head], key[head] * mask)
