"""Squeezed Attention: what heads read, and what becomes of its clusters beside other things."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from lengthwise.engine.attention.attend import Part, attend
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.selection import Queries
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.methods.selection import squeezed as module
from lengthwise.methods.selection.squeezed import (
    ClusteredKeys,
    Squeezed,
    selected,
)
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tokens
from tests.methods.selection.selection_runs import plan_of, read_on
from tests.methods.selection.squeezed_runs import (
    ENDED,
    FLAT,
    TWO,
    ended,
    keys_seen,
    selectors,
    spy,
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from([(1, 1), (2, 1), (2, 3), (1, 4)]), st.integers(0, 5))
def test_heads_read_unequal_numbers_of_keys(seed: int, shape: tuple[int, int], later: int) -> None:
    kv_heads, group = shape
    heads, size = kv_heads * group, 30
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(heads, 1, generator=generator)
    kept = torch.rand(heads, size, generator=generator) < share * (share > 0.2)
    choice = selected(kept, kv_heads, size + later)
    assert choice.ids.shape[0] == kv_heads
    assert bool((choice.ids.diff(dim=1) > 0).all())
    seen = keys_seen(choice, heads, size + later)
    assert torch.equal(seen[:, :size], kept) and bool(seen[:, size:].all())
    union = kept.view(kv_heads, group, size).any(1).sum(1)
    assert choice.ids.shape[1] == int(union.max()) + later


def test_where_all_heads_keep_all_there_is_no_choice(
    llama: AdaptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequence = ended(llama, FLAT)
    (_, group), *_ = sequence.groups()
    selector, far = group.selector, group.far
    assert isinstance(selector, ClusteredKeys)
    heads, size = 4, selector.levels[0].labels.shape[1]
    kept = torch.ones(heads, size, dtype=torch.bool)
    monkeypatch.setattr(ClusteredKeys, "kept", lambda self, query: kept)
    index = torch.tensor([ENDED])
    query = torch.randn(heads, 1, 16)
    queries = Queries(query, query, index, len(group.near), True, (ENDED, ENDED), group.near_start)
    assert len(far) == size and selector.plan(queries, far) is None
    # One head of a group keeps all, and the other does not: the group reads all under a mask.
    kept[1, 3] = False
    choice = selector.plan(queries, far)
    assert choice is not None and choice.ids.shape == (2, size)
    assert torch.equal(keys_seen(choice, heads, size), kept)
    kept[:2, 5:] = kept[2:, 7:] = False
    choice = selector.plan(queries, far)
    assert choice is not None and choice.ids.shape == (2, 7)
    assert torch.equal(keys_seen(choice, heads, size), kept)


def test_a_head_that_keeps_nothing_reads_the_rest() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(n, 9, 8, generator=generator) for n in (4, 2, 2))
    query = query[:, :1]
    kept = torch.tensor([[False] * 6, [True, False] * 3, [False] * 6, [False] * 6])
    choice = selected(kept, 2, 6)
    rows = choice.ids[..., None].expand(-1, -1, 8)
    chosen = Part(query, key[:, :6].gather(1, rows), value[:, :6].gather(1, rows), choice.mask)
    out, _ = attend([chosen, Part(query, key[:, 6:], value[:, 6:])], 0.3)
    whole = torch.nn.functional.pad(kept, (0, 3), value=True)[:, None]
    right, _ = attend([Part(query, key, value, whole)], 0.3)
    assert torch.allclose(out, right, atol=1e-5)


def test_more_removed_is_fewer_keys_read(
    llama: AdaptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[float] = []
    spy(monkeypatch, lambda mine, queries, *_: kept.append(float(
        mine.kept(queries.far).float().mean())))  # fmt: skip
    found = []
    for removed in (0.3, 0.5, 0.7, 0.9):
        kept.clear()
        read_on(ended(llama, dataclasses.replace(FLAT, removed=removed), 150), tokens(20, seed=3))
        found.append(sum(kept) / len(kept))
    assert sorted(found, reverse=True) == found
    assert abs(found[2] - 0.3) < 0.12 and found[3] < 0.2


# With others.


def test_a_fork_holds_the_same_clusters(llama: AdaptedModel) -> None:
    sequence = ended(llama, TWO)
    for mine, theirs in zip(selectors(sequence), selectors(sequence.fork()), strict=True):
        assert mine is not theirs and mine.bounds == theirs.bounds
        for a, b in zip(mine.tensors(), theirs.tensors(), strict=True):
            assert a is b
    plain = Sequence(llama, plan_of(Squeezed(removed=0, window=8), llama))
    prefill(plain, tokens(ENDED), 16)
    index = sum(t.numel() * t.element_size() for s in selectors(sequence) for t in s.tensors() if
                t is not None)  # fmt: skip
    assert index > 0 and sequence.nbytes() - plain.nbytes() == pytest.approx(index, abs=2048)


@pytest.mark.parametrize("offset", [0, 40])
def test_queries_that_set_the_threshold_stand_as_they_reach_far_keys(
    llama: AdaptedModel, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    recipe = "squeezed(window=8, clusters=1, levels=1) + self_extend(group=4, window=16)"
    far: dict[int, Tensor] = {}
    shown: list[Tensor] = []
    inputs, index = LayerCache._inputs, ClusteredKeys.index_prompt

    def noting(self: LayerCache, *given: Any) -> Any:
        found = inputs(self, *given)
        far[self.facts.index] = found.far_query
        return found

    def showing(self: ClusteredKeys, queries: Tensor, store: KVStore) -> None:
        shown.append(queries)
        index(self, queries, store)

    monkeypatch.setattr(LayerCache, "_inputs", noting)
    monkeypatch.setattr(ClusteredKeys, "index_prompt", showing)
    sequence = Sequence(llama, resolve(recipe, llama), offset=offset)
    prefill(sequence, tokens(ENDED), 16)
    sequence.end_prefill()
    assert len(shown) == len(llama.layers)
    for layer, queries in enumerate(shown):
        assert queries.shape[1] == 8
        assert torch.allclose(queries, far[layer][:, -8:], atol=1e-4)


def test_clusters_are_of_keys_before_they_are_encoded(llama: AdaptedModel) -> None:
    plain, encoded = (
        Sequence(llama, resolve(recipe, llama))
        for recipe in (str(TWO), f"{TWO} + kivi(bits=2, group=8, residual=8)")
    )
    for sequence in (plain, encoded):
        prefill(sequence, tokens(ENDED), 16)
        sequence.end_prefill()
    assert any(group.far.closed for _, group in encoded.groups())
    for mine, theirs in zip(selectors(plain), selectors(encoded), strict=True):
        assert mine.bounds == theirs.bounds
        for a, b in zip(mine.tensors(), theirs.tensors(), strict=True):
            assert a is not None and b is not None and torch.equal(a, b)
    assert bool(read_on(encoded, tokens(4, seed=2)).isfinite().all())


def test_clusters_are_made_once(llama: AdaptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    find = module.kmeans

    def counting(points: Tensor, count: int, seed: int) -> Tensor:
        made.append(count)
        return find(points, count, seed)

    monkeypatch.setattr(module, "kmeans", counting)
    sequence = ended(llama, TWO)
    assert len(made) == 2 * len(llama.layers)
    read_on(sequence.fork(), tokens(20, seed=2))
    read_on(sequence, tokens(20, seed=3))
    assert len(made) == 2 * len(llama.layers)


def test_another_seed_gives_other_clusters(llama: AdaptedModel) -> None:
    one, same, other = (
        selectors(ended(llama, dataclasses.replace(FLAT, seed=seed)))[0].levels[0].labels
        for seed in (0, 0, 5)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)
