"""Every kernel is its plain twin, on whatever it says it serves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from lengthwise.engine.attention.attend import attend, single_softmax
from lengthwise.engine.kernels import choice, compiled, flex, rows, tree
from lengthwise.engine.kernels.kernel import BLOCK
from lengthwise.engine.kernels.part import Asked, Part
from lengthwise.engine.kernels.plain import plain
from lengthwise.engine.kernels.products import PRODUCTS, VALUE_PRODUCTS

HEADS, KEY_HEADS, DIM = 4, 2, 16
KINDS = ("all", "causal", "masked", "masked by head", "weighted", "own keys")
# Kernels in Triton run on a CPU where they are interpreted: `test_interpreted` has them there.
TRITON = {tree.NAME} if compiled.INTERPRETED and compiled.installed() else set()
HERE = sorted(BLOCK.keys() - {"plain", "varlen", tree.NAME} | TRITON)
LIMITS = {torch.float32: 2e-5, torch.float64: 1e-9, torch.bfloat16: 0.05}


def part(kind: str, queries: int, keys: int, generator: torch.Generator) -> Part:
    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    query = normal(HEADS, queries, DIM)
    if kind == "causal":
        return Part(query, *normal(2, KEY_HEADS, queries + keys - 1, DIM), causal=True)
    key_heads = HEADS if kind == "own keys" else KEY_HEADS
    key, value = normal(2, key_heads, keys, DIM)
    if kind == "masked":
        return Part(query, key, value, torch.rand(queries, keys, generator=generator) > 0.5)
    if kind == "masked by head":
        return Part(query, key, value, torch.rand(HEADS, queries, keys, generator=generator) > 0.5)
    if kind == "weighted":
        weight = torch.rand(key_heads, keys, generator=generator) * 3
        return Part(query, key, value, log_weight=weight)
    return Part(query, key, value)


def cast(given: Part, dtype: torch.dtype) -> Part:
    return dataclasses.replace(
        given, query=given.query.to(dtype), key=given.key.to(dtype), value=given.value.to(dtype)
    )


@pytest.fixture(autouse=True, scope="module")
def flex_is_eager() -> Iterator[None]:
    """Compiled for a CPU it would take minutes; what it computes is the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flex, "EAGER", True)
        yield


@pytest.mark.parametrize("name", HERE)
@settings(max_examples=30, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), max_size=3),
    first=st.sampled_from(["all", "causal"]),
    queries=st.sampled_from([1, 2, 7, 33, 130]),
    keys=st.integers(1, 40),
    softcap=st.sampled_from([None, 3.0]),
    sinks=st.booleans(),
    lse=st.booleans(),
    dtype=st.sampled_from(list(LIMITS)),
    seed=st.integers(0, 1000),
)
def test_a_kernel_is_its_twin_where_it_serves(
    name, kinds, first, queries, keys, softcap, sinks, lse, dtype, seed
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # One part of which every query sees a key: a softmax over nothing is not defined.
    parts = [cast(part(kind, queries, keys, generator), dtype) for kind in (first, *kinds)]
    sink = torch.randn(HEADS, generator=generator) if sinks else None
    asked = Asked(parts, 0.3, softcap, sink, lse)
    if BLOCK[name].serves(asked):
        is_its_twin(name, asked)


def is_its_twin(name: str, asked: Asked) -> None:
    out, found = BLOCK[name].attend(asked)
    exact = [cast(part, torch.float32) for part in asked.parts]
    right, total = plain(dataclasses.replace(asked, parts=exact, need_lse=True))
    dtype = asked.parts[0].query.dtype
    limit = max(LIMITS[dtype], 2e-5)
    assert out.dtype == dtype
    assert torch.allclose(out.float(), right, atol=limit)
    if asked.need_lse:
        assert found is not None and total is not None
        assert torch.allclose(found.float(), total, atol=limit)


@pytest.fixture(scope="module")
def small_tiles() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "KEY_TILE", 8)
        patch.setattr(rows, "MOST_KEYS", 12)
        patch.setattr(rows, "LEAST_ROWS", 2)
        patch.setattr(rows, "FEW", 2)
        yield


@pytest.mark.usefixtures("small_tiles")
@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), max_size=2),
    first=st.sampled_from(["all", "causal", "weighted"]),
    queries=st.sampled_from([1, 7, 33]),
    keys=st.integers(1, 60),
    softcap=st.sampled_from([None, 3.0]),
    sinks=st.booleans(),
    lse=st.booleans(),
    dtype=st.sampled_from(list(LIMITS)),
    seed=st.integers(0, 1000),
)
def test_rows_are_their_twin_over_tiles_of_keys(
    kinds, first, queries, keys, softcap, sinks, lse, dtype, seed
) -> None:
    generator = torch.Generator().manual_seed(seed)
    parts = [cast(part(kind, queries, keys, generator), dtype) for kind in (first, *kinds)]
    sink = torch.randn(HEADS, generator=generator) if sinks else None
    is_its_twin("rows", Asked(parts, 0.3, softcap, sink, lse))


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    ("before", "others", "tiles"), [(8, 20, 0), (9, 20, 1), (29, 20, 3), (5, 0, 0), (9, 0, 1)]
)
def test_tiles_are_cut_off_where_keys_are_many(before: int, others: int, tiles: int) -> None:
    """4 queries behind so many keys that all of them see, and other keys under a mask."""
    generator = torch.Generator().manual_seed(0)
    own, masked = part("causal", 4, before + 1, generator), part("masked", 4, others, generator)
    found, rest = rows._tiles([masked, own] if others else [own])
    assert [tile.key.shape[1] for tile in found] == [rows.KEY_TILE] * tiles
    assert rest[:-1] == ([masked] if others else [])
    assert rest[-1].causal
    assert torch.equal(torch.cat([each.key for each in (*found, rest[-1])], 1), own.key)


def test_the_lse_of_rows_whose_first_weights_underflow() -> None:
    scores = torch.tensor([[-200.0, -300.0, 1.0, 2.0], [3.0, 1.0, -200.0, 0.0]]).repeat(1, 40)
    scores[0, : rows.FEW] = -500.0
    found = rows._lse(scores[None], torch.softmax(scores, -1)[None])
    assert torch.allclose(found[0], torch.logsumexp(scores, -1), atol=1e-5)


@pytest.mark.parametrize("name", HERE)
def test_a_kernel_serves_what_it_is_there_for(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    plain_part = part("causal", 7, 1, generator)
    assert BLOCK[name].serves(Asked([plain_part], 0.3))
    assert BLOCK[name].serves(Asked([cast(plain_part, torch.bfloat16)], 0.3))


@pytest.mark.parametrize("queries", [1, 3, 40])
@pytest.mark.parametrize("keys", [1, 17, 2000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_of_rows_and_keys_are_the_same(
    queries: int, keys: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    queried = torch.randn(KEY_HEADS, queries, DIM, generator=generator).to(dtype)
    key = torch.randn(KEY_HEADS, keys + 9, DIM, generator=generator).to(dtype)[:, :keys]
    exact = queried.double() @ key.double().transpose(1, 2)
    limit = 0.1 if dtype == torch.bfloat16 else 1e-4
    for way in PRODUCTS.values():
        assert torch.allclose(way(queried, key).double(), exact, atol=limit)
    weights = torch.softmax(exact, -1).to(dtype)
    for way in VALUE_PRODUCTS.values():
        for some in (slice(None), slice(keys // 2, None)):  # those of one part of several
            of, value = weights[..., some], key[:, some]
            right = of.double() @ value.double()
            assert torch.allclose(way(of, value).double(), right, atol=limit)


@pytest.mark.parametrize("name", [name for name in choice.KERNELS["step"] if name != "varlen"])
@pytest.mark.parametrize("keys", [3, 1500])
def test_a_step_is_its_twin(name: str, keys: int) -> None:
    generator = torch.Generator().manual_seed(0)
    given_part = part("all", 1, keys, generator)
    query = given_part.query.reshape(KEY_HEADS, -1, DIM)
    with choice.using(f"step={name}"):
        out = single_softmax(query, given_part.key, given_part.value, 0.3)
    right = plain(Asked([given_part], 0.3))[0]
    assert torch.allclose(out.reshape(HEADS, 1, DIM), right, atol=1e-5)


@pytest.mark.parametrize("name", HERE)
def test_attend_takes_the_kernel_that_is_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    kernel = BLOCK[name]

    def attended(what: Asked):
        asked.append(name)
        return kernel.attend(what)

    monkeypatch.setitem(BLOCK, name, dataclasses.replace(kernel, attend=attended))
    given_part = part("causal", 7, 1, torch.Generator().manual_seed(0))
    with choice.using(name):
        attend([given_part], 0.3)
    assert asked == [name]


def test_what_the_kernel_asked_for_cannot_do_is_done_by_another() -> None:
    given_part = part("weighted", 7, 5, torch.Generator().manual_seed(0))
    assert not BLOCK["stock"].serves(Asked([given_part], 0.3))
    with choice.using("stock"):
        out, _ = attend([given_part], 0.3)
    assert torch.allclose(out, plain(Asked([given_part], 0.3))[0], atol=1e-5)
