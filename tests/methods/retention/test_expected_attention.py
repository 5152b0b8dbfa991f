"""Expected Attention scores entries as kvpress does, on any chunks of any prompt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kv_cache.query_moments import QueryMoments
from lengthwise.engine.kv_cache.retention import CacheUpdate
from lengthwise.engine.kv_cache.saved import pack_sequence, unpack_sequence
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.engine.plan import FULL
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget
from lengthwise.methods.bases import ScoredEntries
from lengthwise.methods.positions.dynamic_ntk import DynamicNTK
from lengthwise.methods.positions.self_extend import SelfExtend
from lengthwise.methods.positions.yarn import YaRN
from lengthwise.methods.retention.expected_attention import ExpectedAttention
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.drive import together
from lengthwise.testing.tiny import tiny, tiny_model, tokens
from tests.methods.retention.kvpress_case import LENGTH, adapted, read, recorded


class Scores(ScoredEntries):
    """Notes the scores of every layer, and drops nothing."""

    def __init__(self, method: ExpectedAttention) -> None:
        super().__init__(method)
        self.found: list[Tensor] = []
        self.moments: list[QueryMoments] = []

    def retain(self, group: Any, update: CacheUpdate) -> None:
        if update.phase.value == "prefill":
            assert update.moments is not None
            self.found.append(self._scores(group, update, 0))
            self.moments.append(update.moments)


def scores(method: ExpectedAttention, chunk: int = LENGTH) -> list[Tensor]:
    sequence = read(replace(FULL, retention=lambda: Scores(method)), chunk)
    assert isinstance(sequence.retention, Scores)
    return sequence.retention.found


@pytest.mark.parametrize("chunk", [LENGTH, 7, 1])
@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("expected_attention", ExpectedAttention(epsilon=0.02)),
        ("mean_alone", ExpectedAttention(future=16, covariance=False, value_norm=False)),
    ],
)
def test_scores_are_those_of_kvpress(name: str, method: ExpectedAttention, chunk: int) -> None:
    for ours, theirs in zip(scores(method, chunk), recorded()[name]["scores"], strict=True):
        wanted = torch.tensor(theirs)
        assert bool(torch.isinf(ours[:, :4]).all()), "sinks always stay"
        torch.testing.assert_close(ours[:, 4:], wanted[:, 4:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["expected_attention", "adakv_expected_attention"])
def test_a_recipe_keeps_what_kvpress_keeps(name: str) -> None:
    # 25 tokens pay for 24 entries and their indices, half of the prompt as in the record.
    adaptive = name.startswith("adakv")
    method = ExpectedAttention(budget=Budget(25), epsilon=0.02, adaptive=adaptive)
    sequence = read(resolve([method], adapted()))
    for layer, theirs in zip(sequence.layers, recorded()[name]["kept"], strict=True):
        ours = {
            head: index
            for group in layer.groups
            for head, index in zip(
                group.head_numbers or [0, 1], group.near.index().tolist(), strict=True
            )
        }
        assert [ours[head] for head in (0, 1)] == theirs


def test_moments_are_mean_and_covariance_of_the_queries() -> None:
    generator = torch.Generator().manual_seed(0)
    # A bias a hundred times the spread, as some models' queries have.
    query = torch.randn(3, 200, 8, generator=generator) + 100
    moments = QueryMoments(skip=6)
    for start in (0, 4, 5, 100, 101):
        stop = {0: 4, 4: 5, 5: 100, 100: 101, 101: 200}[start]
        moments.add(query[:, start:stop], start)
    own = query[:, 6:].double()
    assert moments.count == 194 and moments.mean is not None
    torch.testing.assert_close(moments.mean.double(), own.mean(1), rtol=1e-6, atol=1e-5)
    wanted = torch.stack([each.T.cov(correction=0) for each in own])
    torch.testing.assert_close(moments.covariance().double(), wanted, rtol=1e-3, atol=1e-4)
    assert moments.nbytes() == 4 * 3 * (8 + 64)


@pytest.mark.parametrize("family", ["llama", "qwen3", "deepseek_v3", "gpt2", "phi"])
def test_expectation_is_that_of_drawn_queries(family: str) -> None:
    """Against a plain mean over positions and queries, where these hardly spread."""
    model, text = tiny(family), tokens(60)
    method = ExpectedAttention(value_norm=False, future=8)
    sequence = Sequence(model, replace(FULL, retention=lambda: Scores(method)))
    prefill(sequence, text)
    sequence.end_prefill()
    assert isinstance(sequence.retention, Scores)
    layer, moments = model.layers[0], sequence.retention.moments[0]
    entries = sequence.layers[0].groups[0].near.read()
    assert entries is not None and moments.mean is not None
    key = entries.key[:, 4:].repeat_interleave(layer.num_heads // layer.num_kv_heads, 0)
    mean, cov = moments.mean[:, None], moments.covariance()
    if layer.layout is not None and model.rope is not None:
        angles = model.rope.angles(layer.layout, layer.rotary_type, torch.arange(60, 68))
        # Column by column, as matrices: an identity turned at each position.
        eye = torch.eye(layer.head_dim)[:, None].expand(-1, 8, -1)
        turn = layer.layout.rotate(eye, angles).mean(1)
        mean, cov = mean @ turn, turn.T @ cov @ turn
    logits = (key @ mean.mT)[..., 0] * layer.scaling
    logits = logits + torch.einsum("hnd,hde,hne->hn", key, cov, key) * layer.scaling**2 / 2
    wanted = logits.softmax(-1).unflatten(0, (layer.num_kv_heads, -1)).mean(1)
    torch.testing.assert_close(sequence.retention.found[0][:, 4:], wanted, rtol=1e-3, atol=1e-6)


def test_prompts_read_side_by_side_have_moments_of_their_own() -> None:
    model = tiny("llama")
    plan = resolve([ExpectedAttention(budget=Budget(30))], model)
    texts = [tokens(70, seed) for seed in (1, 2)]
    both = together(model, plan, texts, 6)
    for text, row in zip(texts, both, strict=True):
        alone = together(model, plan, [text], 6, 13)[0]
        torch.testing.assert_close(row, alone, rtol=1e-3, atol=1e-3)


def test_frequencies_of_the_recipe_turn_future_queries_too() -> None:
    model, text = tiny("llama"), tokens(70)
    found = []
    for rules in ((), (YaRN(factor=2),)):
        plan = resolve([*rules, ExpectedAttention()], model)
        sequence = Sequence(model, replace(plan, retention=lambda: Scores(ExpectedAttention())))
        prefill(sequence, text)
        sequence.end_prefill()
        assert isinstance(sequence.retention, Scores)
        found.append(sequence.retention.found[0])
        # What was noted of the prompt is given back once it is of no use.
        assert all(layer.moments is None for layer in sequence.layers)
    assert not torch.allclose(found[0], found[1], rtol=1e-3)


def test_a_prompt_saved_half_read_is_finished_as_ever() -> None:
    model, text = tiny("llama"), tokens(80)
    plan = resolve([ExpectedAttention(budget=Budget(40))], model)
    sequence = Sequence(model, plan)
    prefill(sequence, text[:50])
    data, tensors = pack_sequence(sequence)
    again = unpack_sequence(data, tensors.__getitem__, model, plan)
    for each in (sequence, again):
        prefill(each, text[50:])
        each.end_prefill()
        assert each.dropped()
    for ours, theirs in zip(again.layers, sequence.layers, strict=True):
        assert torch.equal(ours.groups[0].near.index(), theirs.groups[0].near.index())
    logits = [teacher_force(each, text[:9]) for each in (sequence, again)]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def wide() -> AdaptedModel:
    model = tiny_model(
        "llama", hidden_size=256, head_dim=64, num_key_value_heads=4, initializer_range=0.15,
        max_position_embeddings=4096,
    )  # fmt: skip
    return adapt(model.to(torch.bfloat16), verify=False)


@pytest.mark.parametrize("adaptive", [False, True])
def test_bytes_are_those_of_the_budget(adaptive: bool, wide: AdaptedModel) -> None:
    plan = resolve([ExpectedAttention(budget=Budget(25, "%"), adaptive=adaptive)], wide)
    sequence = Sequence(wide, plan)
    prefill(sequence, tokens(1600), 256)
    sequence.end_prefill()
    assert abs(sequence.nbytes() / (400 * wide.bytes_per_token) - 1) < 0.03
    assert {len(layer.groups) > 1 for layer in sequence.layers} == {adaptive}
    # Moments were held beside everything while the prompt was read.
    assert sequence.peak_bytes > 1600 * wide.bytes_per_token + 2 * 4 * 4 * 64 * 64


def test_defaults_and_refusals() -> None:
    assert ExpectedAttention() == ExpectedAttention(
        budget=Budget(1024), sinks=4, recent=0, future=512, epsilon=0.0, covariance=True
    )
    with pytest.raises(RecipeError, match="without value_norm=true"):
        ExpectedAttention(value_norm=False, epsilon=0.5)
    with pytest.raises(RecipeError, match="without adaptive=true"):
        ExpectedAttention(alpha=0.5)
    for other in (DynamicNTK(), SelfExtend()):
        with pytest.raises(Refused, match="position"):
            resolve([ExpectedAttention(), other], tiny("llama"))
