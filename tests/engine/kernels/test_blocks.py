"""Blocks of queries over keys chosen for each of them: the dense way equals every score, masked."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.engine.kernels import blocks
from lengthwise.engine.kernels.blocks import Blocks


def asked(
    queries: int, keys: int, size: int, share: float, seed: int, softcap: float | None = None,
    sinks: bool = False, dtype: torch.dtype = torch.float32,
) -> Blocks:  # fmt: skip
    """Random queries of 6 heads over 2 key heads, and a random choice of this share of the keys."""
    make = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(heads, n, 8, generator=make).to(dtype)
        for heads, n in ((6, queries), (2, keys), (2, keys))
    )
    count = -(-queries // size)
    chosen = torch.rand(2, 3, count, keys - queries + (count - 1) * size, generator=make) < share
    learned = torch.randn(6, generator=make) if sinks else None
    return Blocks(query, key, value, size, lambda head: chosen[head], 0.3, softcap, learned)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40), st.integers(0, 60), st.integers(1, 16), st.sampled_from([0, 0.1, 0.6, 1]),
    st.integers(0, 99), st.sampled_from([None, 5.0]), st.booleans(),
)  # fmt: skip
def test_chosen_keys_side_by_side_give_what_a_mask_gives(
    queries: int, before: int, size: int, share: float, seed: int, softcap: float | None,
    sinks: bool,
) -> None:  # fmt: skip
    given_ = asked(queries, queries + before, size, share, seed, softcap, sinks)
    found, _ = blocks.attend(given_)
    assert torch.isfinite(found).all()
    assert float((found - blocks.plain(given_)).abs().max()) < 1e-5


@pytest.mark.parametrize("size", [4, 16])
def test_heads_that_choose_alike_are_read_together(size: int) -> None:
    given_ = asked(37, 80, size, 0.3, 3)
    alike = dataclasses.replace(
        given_, chosen=lambda head: given_.chosen(head)[:1].expand(3, -1, -1)
    )
    found, copied = blocks.attend(alike)
    assert float((found - blocks.plain(alike)).abs().max()) < 1e-5
    assert copied < blocks.attend(given_)[1]


def test_all_keys_chosen_is_causal_attention() -> None:
    given_ = asked(37, 80, 8, 1.0, 0)
    key, value = (x.repeat_interleave(3, 0) for x in (given_.key, given_.value))
    scores = given_.query @ key.mT * 0.3
    scores = scores.masked_fill(~torch.ones(37, 80, dtype=torch.bool).tril(43), -torch.inf)
    found, copied = blocks.attend(given_)
    assert float((found - scores.softmax(-1) @ value).abs().max()) < 1e-5
    assert copied > 0


def test_sixteen_bits_stay_near() -> None:
    given_ = asked(64, 256, 16, 0.3, 1, dtype=torch.bfloat16)
    found, _ = blocks.attend(given_)
    assert found.dtype is torch.bfloat16
    assert float((found.float() - blocks.plain(given_).float()).abs().max()) < 0.03


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_what_is_copied_is_what_was_chosen(share: float) -> None:
    """Padding adds at most what `ALIKE` allows, over blocks that chose alike."""
    given_ = asked(64, 2064, 16, share, 2)
    _, copied = blocks.attend(given_)
    longest = max(int(given_.past(head).sum(-1).max()) for head in (0, 1))
    most = 3 * 4 * longest * 2 * 8 * 4
    assert 0 < copied <= most
