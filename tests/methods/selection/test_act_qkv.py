"""ActQKV: what a block of queries looks up with, and what each layer retrieves."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.plan import FULL
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget
from lengthwise.methods.selection.act_qkv import (
    ActQKV,
    DenseMemory,
    activation_weights,
    block_scores,
    density,
    probe_of,
    shares,
)
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import parse, resolve
from lengthwise.testing.tiny import tiny, tokens
from tests.methods.selection.selection_runs import LENGTH, plan_of, read_all

SMALL = ActQKV(budget=36, window=16, init=4, block=4, query_block=16, representatives=2)
MEMORY = InfLLM(budget=36, window=16, init=4, block=4, query_block=16, representatives=2)


def test_queries_alike_and_products_are_infllm(llama: AdaptedModel) -> None:
    method = dataclasses.replace(SMALL, probe="mean", score="dot", cutoff=False)
    text = tokens(LENGTH)
    mine, theirs = (read_all(llama, plan_of(m, llama), text, 16, 8) for m in (method, MEMORY))
    assert torch.equal(mine, theirs)


def test_a_probe_looks_up_other_blocks_than_a_mean(llama: AdaptedModel) -> None:
    text = tokens(200)
    mine, other = (
        read_all(llama, plan_of(dataclasses.replace(SMALL, probe=by), llama), text, 16, 0)
        for by in ("activation", "mean")
    )
    assert float((other - mine).abs().max()) > 1e-3


@pytest.mark.parametrize("family", ["llama", "qwen3", "deepseek_v3"])
def test_a_budget_for_everything_equals_full(family: str) -> None:
    model = tiny(family)
    text = tokens(LENGTH)
    full = read_all(model, FULL, text, LENGTH, 0)
    wide = dataclasses.replace(SMALL, budget=Budget(400))
    for method in (ActQKV.identity(LENGTH), dataclasses.replace(wide, window=LENGTH + 8)):
        found = read_all(model, plan_of(method, model), text, 16, 8)
        assert float((found - full).abs().max()) < 1e-4


# The probe.


def test_weights_are_squared_deviations_by_channel() -> None:
    queries = torch.randn(3, 7, 4)
    flat = queries.transpose(0, 1).reshape(7, 12)
    mean, variance = flat.mean(0), flat.var(0)
    bias = torch.zeros(7)
    for t in range(7):
        for c in range(12):
            spread = variance[c] + variance.mean() / 100
            bias[t] += (flat[t, c] - mean[c]) ** 2 / spread / 12
    weights = activation_weights(queries)
    assert torch.allclose(weights, bias / bias.sum(), atol=1e-6)
    expected = (weights[:, None] * flat).sum(0)
    assert torch.allclose(probe_of(queries, "activation").flatten(), expected, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 20), st.integers(0, 999))
def test_the_query_that_deviates_counts_most(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries = 0.1 * torch.randn(2, count, 8, generator=generator)
    queries[:, seed % count] += 5
    weights = activation_weights(queries)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    if count > 2:
        assert int(weights.argmax()) == seed % count


def test_queries_all_alike_count_alike() -> None:
    queries = torch.ones(2, 5, 8)
    assert torch.allclose(activation_weights(queries), torch.full((5,), 0.2))
    assert torch.equal(probe_of(queries[:, :1], "activation"), queries[:, 0])


def test_scores_are_cosines_over_all_heads() -> None:
    index, probe = torch.randn(2, 6, 8), torch.randn(3, 4, 8)
    whole = index.repeat_interleave(2, 0).transpose(0, 1).reshape(6, 32)
    for row, found in zip(probe, block_scores(probe, index, "cosine", 0.3), strict=True):
        expected = torch.cosine_similarity(whole, row.flatten()[None])
        assert torch.allclose(found, expected, atol=1e-5)
    dots = block_scores(probe, index, "dot", 0.3)
    assert torch.allclose(dots[0], whole @ probe[0].flatten() * 0.3 / 4, atol=1e-5)


# What layers retrieve.


def test_density_is_one_where_all_blocks_are_alike_and_nothing_where_one_is_all() -> None:
    scores = torch.tensor([[0.0, 0.0, 0.0], [90.0, 0.0, 0.0]])
    assert torch.allclose(density(scores), torch.tensor([1.0, 0.0]), atol=1e-6)
    assert density(torch.zeros(2, 1)).tolist() == [1.0, 1.0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=12))
def test_layers_share_one_budget_by_density(densities: list[float]) -> None:
    free = shares(densities, 0.0, 100.0)
    assert sum(free) == pytest.approx(len(densities))
    for (a, own), (b, other) in zip(
        zip(free, densities, strict=True), [(free[0], densities[0])] * len(free), strict=True
    ):
        assert a * other == pytest.approx(b * own)
    bound = shares(densities, 0.7, 2.0)
    assert all(0.7 <= share <= 2.0 for share in bound)


def test_the_bounds_are_paid_by_later_layers() -> None:
    assert shares([0.1, 1.0, 1.0], 0.5, 2.0) == pytest.approx([0.5, 1.25, 1.25])
    assert shares([0.0, 0.0], 0.0, 2.0) == [1.0, 1.0]


def test_blocks_are_retrieved_by_the_density_of_a_prompt(llama: AdaptedModel) -> None:
    method = dataclasses.replace(SMALL, least=0.2, most=3.0, score="dot", budget=Budget(44))
    sequence = Sequence(llama, resolve([method], llama))
    prefill(sequence, tokens(LENGTH), 16)
    made = [group.selector for _, group in sequence.groups()]
    assert all(isinstance(each, DenseMemory) and each.share == 1.0 for each in made)
    sequence.end_prefill()
    layers = [each for each in made if isinstance(each, DenseMemory)]
    assert len({each.density for each in layers}) > 1
    expected = shares([each.density for each in layers], 0.2, 3.0)
    assert [each.share for each in layers] == expected
    assert sum(expected) == pytest.approx(len(layers), abs=1e-6)
    assert [each.selector.share for _, each in sequence.fork().groups()] == expected


# Options.


def test_defaults_are_those_of_the_released_configuration() -> None:
    found = ActQKV()
    assert found.budget == Budget(46 * found.block + found.window + found.init)
    assert (found.block, found.window, found.init, found.query_block) == (32, 512, 64, 256)
    assert (found.representatives, found.least, found.most) == (4, 0.7, 2.0)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(RecipeError, match="must be left to choose"):
        ActQKV(budget=Budget(72))
    with pytest.raises(RecipeError, match="cutoff=true"):
        parse("act_qkv(cutoff=false, least=0.5)")
    with pytest.raises(Refused, match="act_qkv"):
        resolve("act_qkv", tiny("gpt2"))
    with pytest.raises(Refused, match="both decide at which positions"):
        resolve("act_qkv + self_extend", tiny("llama"))
