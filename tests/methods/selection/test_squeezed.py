"""Squeezed Attention: its laws, its clusters, and its threshold over layers and heads."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.plan import FULL
from lengthwise.errors import RecipeError
from lengthwise.methods.selection.reading import far_keys
from lengthwise.methods.selection.squeezed import (
    ClusteredKeys,
    Level,
    Squeezed,
    cluster,
    estimates,
    quantile,
    selected,
)
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model, tokens
from tests.methods.selection.selection_runs import LENGTH, plan_of, read_all, read_on
from tests.methods.selection.squeezed_runs import (
    ENDED,
    EXACT,
    FLAT,
    TWO,
    ended,
    keys_seen,
    selectors,
    spy,
)


def probabilities(query: Tensor, key: Tensor, scaling: float, softcap: float | None) -> Tensor:
    """Of keys `[kv_heads, n, d]` for queries `[heads, q, d]`, alone: `[heads, q, n]`."""
    logits = query @ key.repeat_interleave(len(query) // len(key), 0).mT * scaling
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits.softmax(-1)


# Laws.


@pytest.mark.parametrize("method", [FLAT, TWO, EXACT], ids=str)
def test_a_threshold_of_zero_equals_full(
    model: AdaptedModel, method: Squeezed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def everything(self: ClusteredKeys, queries: Queries, far: KVStore) -> SelectedKeys:
        self.bounds = (0.0,) * len(self.levels)
        kept = self.kept(queries.far[:, -1:])
        assert bool(kept.all())
        return selected(kept, far.key_heads, len(far))

    monkeypatch.setattr(ClusteredKeys, "plan", everything)
    found = read_all(model, plan_of(method, model), tokens(LENGTH), 16, 8)
    full = read_all(model, FULL, tokens(LENGTH), LENGTH, 0)
    assert float((found - full).abs().max()) < 1e-4


def test_removing_none_equals_full(model: AdaptedModel) -> None:
    method = Squeezed(removed=0, window=8)
    found = read_all(model, plan_of(method, model), tokens(LENGTH), 16, 8)
    full = read_all(model, FULL, tokens(LENGTH), LENGTH, 0)
    assert float((found - full).abs().max()) < 1e-4


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi"])
def test_a_cluster_a_key_is_a_threshold_on_true_probabilities(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapt(tiny_model(family, initializer_range=0.15))
    wrong: list[int] = []
    counts: list[float] = []

    def note(mine: ClusteredKeys, queries: Queries, far: KVStore, choice: Any) -> None:
        key = far_keys(far)[:, : mine.levels[0].labels.shape[1]]
        share = probabilities(queries.far, key, mine.layer.scaling, mine.layer.softcap)[:, 0]
        kept = mine.kept(queries.far)
        # A key right at the threshold may fall to either side.
        sure = (share / mine.bounds[0] - 1).abs() > 1e-4
        wrong.append(int(((kept != (share >= mine.bounds[0])) & sure).sum()))
        counts.append(float(kept.float().mean()))

    spy(monkeypatch, note)
    read_on(ended(model, EXACT), tokens(6, seed=3))
    assert counts and sum(wrong) == 0
    assert 0.02 < min(counts) < max(counts) < 0.98


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.sampled_from([1, 2, 3]), st.integers(1, 30))
def test_sizes_times_estimates_are_one(seed: int, group: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(2, 40, 8, generator=generator)
    level = cluster(keys, torch.ones(2, 40, dtype=torch.int64), count, seed)
    assert level.sizes.sum(1).tolist() == [40, 40]
    query = 3 * torch.randn(2 * group, 5, 8, generator=generator)
    layer = adapted().layers[0]
    sizes = level.sizes_of(len(query))
    total = (estimates(query, level, sizes, layer) * sizes[:, None]).sum(-1)
    assert torch.allclose(total, torch.ones_like(total), atol=1e-5)


def adapted() -> AdaptedModel:
    return adapt(tiny_model("llama"))


# Clusters.


def test_centroids_are_means_of_raw_keys_of_clusters_of_normalised_ones(
    llama: AdaptedModel,
) -> None:
    sequence = ended(llama, FLAT)
    for _, group in sequence.groups():
        (level,) = group.selector.levels  # type: ignore[union-attr]
        keys = far_keys(group.far)
        assert level.labels.shape == keys.shape[:2]
        assert level.centroids.shape[1] == int(0.25 * keys.shape[1])
        directions = torch.nn.functional.normalize(keys, dim=-1)
        for head, labels in enumerate(level.labels):
            for each in labels.unique().tolist():
                own = labels == each
                mean = keys[head][own].mean(0)
                assert torch.allclose(level.centroids[head, each], mean, atol=1e-5)
                assert int(level.sizes[head, each]) == int(own.sum())
            present = labels.unique()
            means = torch.stack([directions[head][labels == i].mean(0) for i in present.tolist()])
            nearest = present[torch.cdist(directions[head], means).argmin(-1)]
            assert float((nearest == labels).float().mean()) > 0.9


def test_the_first_level_joins_clusters_and_counts_their_keys(llama: AdaptedModel) -> None:
    for mine in selectors(ended(llama, TWO)):
        coarse, fine = mine.levels
        size = fine.labels.shape[1]
        assert coarse.centroids.shape[1] == int(0.1 * size) < fine.centroids.shape[1]
        assert coarse.labels.shape == fine.sizes.shape
        assert coarse.sizes.sum(1).tolist() == [size] * len(coarse.sizes)
        for head, labels in enumerate(coarse.labels):
            for each in labels.unique().tolist():
                own = labels == each
                mean = fine.centroids[head][own].mean(0)
                assert torch.allclose(coarse.centroids[head, each], mean, atol=1e-5)
                assert int(coarse.sizes[head, each]) == int(fine.sizes[head][own].sum())


def test_what_is_within_the_window_and_what_comes_later_is_read(
    llama: AdaptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ended(llama, FLAT, 8)
    assert all(not mine.levels for mine in selectors(short))
    later = tokens(20, seed=4)
    full = Sequence(llama, FULL)
    prefill(full, tokens(8))
    assert torch.allclose(read_on(short, later), read_on(full, later), atol=1e-4)

    grown: list[int] = []

    def note(mine: ClusteredKeys, queries: Queries, far: KVStore, choice: Any) -> None:
        size = mine.levels[0].labels.shape[1]
        assert choice is not None and size <= ENDED - 8
        seen = keys_seen(choice, len(queries.far), len(far))
        assert bool(seen[:, size:].all()) and not bool(seen[:, :size].all())
        assert torch.equal(seen[:, :size], mine.kept(queries.far))
        grown.append(len(far) - size)

    spy(monkeypatch, note)
    read_on(ended(llama, FLAT), later)
    assert grown[0] == 0 and grown[-1] >= 20 - 8


def test_a_level_of_a_single_cluster_removes_nothing(llama: AdaptedModel) -> None:
    two = dataclasses.replace(TWO, coarse=0.001)
    for mine, flat in zip(selectors(ended(llama, two)), selectors(ended(llama, dataclasses.replace(
        TWO, levels=1, coarse=0.01))), strict=True):  # fmt: skip
        assert mine.bounds == (0.0, *flat.bounds) and flat.bounds[0] > 0
    method = Squeezed(removed=0.7, clusters=0.001, levels=1, window=8)
    found = read_all(llama, plan_of(method, llama), tokens(LENGTH), 16, 8)
    full = read_all(llama, FULL, tokens(LENGTH), LENGTH, 0)
    assert float((found - full).abs().max()) < 1e-4


# The threshold.


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1, width=32), st.integers(0, 5)), min_size=1, max_size=20
    ).filter(lambda pairs: any(count for _, count in pairs)),
    st.floats(0, 1),
)
def test_the_quantile_is_that_of_numpy(pairs: list[tuple[float, int]], share: float) -> None:
    values, counts = (torch.tensor(each) for each in zip(*pairs, strict=True))
    right = np.quantile(values.repeat_interleave(counts).double().numpy(), share)
    assert quantile(values, counts, share) == pytest.approx(float(right), abs=1e-9)


@pytest.mark.parametrize("method", [FLAT, TWO], ids=str)
def test_one_threshold_a_level_for_all_layers_and_heads(
    llama: AdaptedModel, method: Squeezed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key by key, as the authors' code does it."""
    given: list[Tensor] = []
    index = ClusteredKeys.index_prompt

    def noting(self: ClusteredKeys, queries: Tensor, far: KVStore) -> None:
        given.append(queries)
        index(self, queries, far)

    monkeypatch.setattr(ClusteredKeys, "index_prompt", noting)
    sequence = ended(llama, method)
    mine = selectors(sequence)
    assert len(mine) == len(llama.layers) == len(given)
    assert {len(each.observed) for each in mine} == {0}
    (bounds,) = {each.bounds for each in mine}
    shares = (0.5, 0.6) if method.levels == 2 else (0.5,)
    for at, share in enumerate(shares):
        values = []
        for each, queries in zip(mine, given, strict=True):
            assert queries.shape[1] == method.window
            values.append(by_keys(each.levels, at, queries, each.layer.scaling))
        every = torch.cat([value.flatten() for value in values])
        assert bounds[at] == pytest.approx(float(every.quantile(share)), rel=1e-4)
        kept = [float((value >= bounds[at]).float().mean()) for value in values]
        assert abs(sum(kept) / len(kept) - (1 - share)) < 0.1


def by_keys(levels: tuple[Level, ...], at: int, queries: Tensor, scaling: float) -> Tensor:
    """Mean S of every key's cluster at a level, `[heads, keys]`, written out."""
    heads = len(queries)
    level, label = levels[at], levels[-1].labels.long()
    if at < len(levels) - 1:
        label = levels[0].labels.long().gather(1, label)
    rows = []
    for head in range(heads):
        own = head // (heads // len(label))
        exps = torch.exp(queries[head] @ level.centroids[own].T * scaling)
        whole = (exps * level.sizes[own]).sum(-1, keepdim=True)
        rows.append((exps / whole).mean(0)[label[own]])
    return torch.stack(rows)


def test_a_query_goes_down_the_levels(llama: AdaptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lookups written out: what the first removes has no keys in the second."""
    checked: list[tuple[int, int]] = []

    def note(mine: ClusteredKeys, queries: Queries, far: KVStore, choice: Any) -> None:
        coarse, fine = mine.levels
        scaling, heads = mine.layer.scaling, len(queries.far)
        found = mine.kept(queries.far)
        for head in range(heads):
            own = head // (heads // len(fine.labels))
            label = fine.labels[own].long()
            above = coarse.labels[own].long()
            exps = torch.exp(coarse.centroids[own] @ queries.far[head, 0] * scaling)
            first = exps / (exps * coarse.sizes[own]).sum() >= mine.bounds[0]
            sizes = fine.sizes[own] * first[above]
            exps = torch.exp(fine.centroids[own] @ queries.far[head, 0] * scaling)
            second = (exps / (exps * sizes).sum() >= mine.bounds[1]) & first[above]
            assert torch.equal(found[head], second[label])
            checked.append((int(first.sum()), int(second.sum())))

    spy(monkeypatch, note)
    read_on(ended(llama, TWO), tokens(6, seed=3))
    most = [level.sizes.shape[1] for level in selectors(ended(llama, TWO))[0].levels]
    assert len(set(checked)) > 5 and all(max(each) < all_ for each, all_ in zip(
        zip(*checked, strict=True), most, strict=True))  # fmt: skip


# Options.


def test_defaults_are_those_of_the_paper() -> None:
    found = Squeezed()
    assert (found.removed, found.clusters, found.coarse, found.window) == (0.7, 0.05, 0.01, 100)


def test_options_that_do_nothing_or_cannot_be_are_refused() -> None:
    with pytest.raises(RecipeError, match="give coarse=0.05 or less, or levels=1"):
        Squeezed(coarse=0.1)
    with pytest.raises(RecipeError, match="does nothing without levels=2"):
        Squeezed(levels=1, coarse=0.02)
    with pytest.raises(RecipeError, match="number from 0 to 1"):
        Squeezed(removed=1.5)
    assert Squeezed(levels=1, clusters=0.002).clusters == 0.002
