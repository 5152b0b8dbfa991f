"""EMS scores, evicts and merges as its card says; its twin evicts alone."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import pytest
import torch
from torch import Tensor

from lengthwise.engine.attention.attend import Part, attend
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill, teacher_force
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.codecs.int8 import Int8
from lengthwise.methods.codecs.kivi import Kivi
from lengthwise.methods.positions.dynamic_ntk import DynamicNTK
from lengthwise.methods.positions.self_extend import SelfExtend
from lengthwise.methods.retention.counting import layer_tokens
from lengthwise.methods.retention.ems import EMS, blended, members, merged
from lengthwise.methods.retention.h2o import H2O
from lengthwise.methods.retention.votes import pool
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tiny_model, tokens

PROMPT = 150
SMALL = {"budget": Budget(60), "window": 8, "kernel": 3, "threshold": 0.0}


def read(model: AdaptedModel, methods: Seq[Method], prompt: Seq[int]) -> Sequence:
    sequence = Sequence(model, resolve(methods, model))
    prefill(sequence, prompt, 64)
    sequence.end_prefill()
    return sequence


def near(sequence: Sequence, layer: int = 0) -> KVEntries:
    found = sequence.layers[layer].groups[0].near.read()
    assert found is not None
    return found


def entries(key: Tensor, value: Tensor) -> KVEntries:
    return KVEntries(key, value, torch.arange(key.shape[1])[None].int())


def test_the_larger_of_both_scores_counts_at_the_same_mean() -> None:
    glo, loc = torch.tensor([[8.0, 0, 2, 2]]), torch.tensor([[0.0, 0.1, 0.1, 0.2]])
    assert torch.allclose(blended(glo, loc), torch.tensor([[8 / 3, 1.0, 1.0, 2.0]]))
    assert blended(glo, torch.zeros(1, 4)).isfinite().all()


def test_scores_are_those_of_h2o_and_of_snapkv() -> None:
    model, text = tiny("llama"), tokens(PROMPT)
    whole = near(read(model, [H2O(budget=Budget(PROMPT))], text))
    assert whole.attention_mass is not None
    sequence = Sequence(model, resolve([EMS(**SMALL)], model))
    prefill(sequence, text, 40)
    seen: list[Tensor] = []
    retention = sequence.retention
    original = retention.scores  # type: ignore[union-attr]

    def noted(*given: object) -> Tensor:
        seen.append(original(*given))
        return seen[-1]

    retention.scores = noted  # type: ignore[union-attr]
    queries = sequence.layers[0].last_queries()
    assert queries is not None
    sequence.end_prefill()
    rows = (queries @ whole.key.repeat_interleave(2, 0).transpose(1, 2)) * model.layers[0].scaling
    ahead = torch.arange(PROMPT)[None] > torch.arange(PROMPT - 8, PROMPT)[:, None]
    votes = rows.masked_fill(ahead, -torch.inf).softmax(-1).sum(1)[:, : PROMPT - 8]
    local = pool(votes, 3, "max").view(2, 2, -1).sum(1)
    wanted = blended(whole.attention_mass[:, : PROMPT - 8], local)
    assert torch.allclose(seen[0], wanted, atol=1e-4)


def test_pairs_of_equal_tokens_merged_and_weighed_are_the_whole_text() -> None:
    """The card's check: every token twice, with the same key and value."""
    half, value, query = torch.randn(2, 9, 16), torch.randn(2, 9, 16), torch.randn(4, 3, 16)
    twice = entries(half.repeat_interleave(2, 1), value.repeat_interleave(2, 1))
    scores, centres = torch.ones(2, 18), torch.arange(0, 18, 2).expand(2, -1)
    goes = members(twice, scores, centres, 1.0, 0.999)
    assert goes.tolist() == [[i // 2 for i in range(18)]] * 2
    key, merged_value, mass, count = merged(twice, scores, centres, goes)
    assert torch.equal(count, torch.full((2, 9), 2.0)) and torch.allclose(mass, count)
    ours = attend([Part(query, key, merged_value, log_weight=count.log())], 0.25)[0]
    assert torch.allclose(ours, attend([Part(query, twice.key, twice.value)], 0.25)[0], atol=1e-5)


def test_merging_is_a_mean_weighted_by_the_scores() -> None:
    held = entries(torch.randn(2, 20, 8), torch.randn(2, 20, 6))
    scores = torch.rand(2, 20) + 0.1
    centres = scores.topk(5, dim=1).indices.sort(1).values
    goes = members(held, scores, centres, 0.9, 0.1)
    key, value, mass, count = merged(held, scores, centres, goes)
    assert bool((goes == 5).any()) and bool((count > 1).any())
    for head in range(2):
        for place, centre in enumerate(centres[head].tolist()):
            own = (goes[head] == place).nonzero()[:, 0]
            assert centre in own.tolist() and count[head, place] == len(own)
            weight = scores[head, own]
            assert torch.allclose(mass[head, place], weight.sum() / scores[head, centre])
            for mean, each in ((key, held.key), (value, held.value)):
                wanted = (weight[:, None] * each[head, own]).sum(0) / weight.sum()
                assert torch.allclose(mean[head, place], wanted, atol=1e-5)
    alone = count == 1
    where = centres[..., None].expand(-1, -1, 8)
    assert torch.equal(key[alone], held.key.gather(1, where)[alone])


def test_an_entry_goes_to_its_likest_centre_or_to_the_zero_class() -> None:
    axes = torch.eye(4)
    key = torch.stack([axes[0], axes[1], axes[0], -axes[0], axes[2], axes[1]])[None]
    value = torch.stack([axes[0], axes[0], axes[0], -axes[0], axes[0], axes[3]])[None]
    scores, centres = torch.tensor([[9.0, 8, 3, 3, 3, 3]]), torch.tensor([[0, 1]])
    # The same, opposite twice (a product of 1), another key, another value.
    goes = members(entries(key, value), scores, centres, 1.0, 0.5)
    assert goes.tolist() == [[0, 1, 0, 2, 2, 2]]
    # 17 of 29 are the centres' own: with 60% of the score the one entry in doubt still counts.
    assert members(entries(key, value), scores, centres, 0.6, 0.5).tolist() == goes.tolist()
    assert members(entries(key, value), scores, centres, 0.5, 0.5).tolist() == [[0, 1, 2, 2, 2, 2]]


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    held, scores = entries(torch.randn(2, 40, 8), torch.randn(2, 40, 8)), torch.rand(2, 40)
    centres = scores.topk(6, dim=1).indices.sort(1).values
    whole = members(held, scores, centres, 0.9, 0.0)
    monkeypatch.setattr("lengthwise.methods.retention.ems.BLOCK", 50)
    assert torch.equal(members(held, scores, centres, 0.9, 0.0), whole)


@pytest.mark.parametrize("family", ["llama", "gpt_oss", "deepseek_v3"])
def test_where_nothing_is_alike_ems_is_its_twin(family: str) -> None:
    model, text = tiny(family), tokens(PROMPT)
    more = tokens(20, seed=1)
    strict = EMS(**{**SMALL, "threshold": 1.0})
    twin = EMS(budget=Budget(60), window=8, kernel=3, merge=False)
    ours, theirs = (read(model, [method], text) for method in (strict, twin))
    merging = read(model, [EMS(**SMALL)], text)
    for found in (ours, merging):
        assert torch.equal(near(found, 1).index, near(theirs, 1).index)
    assert not torch.equal(near(merging, 1).key, near(theirs, 1).key)
    # The latest entries are nobody's centres.
    assert torch.equal(near(merging, 1).key[:, -8:], near(theirs, 1).key[:, -8:])
    assert torch.equal(teacher_force(ours, more), teacher_force(theirs, more))


def test_nothing_is_summed_after_the_prompt() -> None:
    model = tiny("llama")
    for budget in (60, PROMPT):
        sequence = read(model, [EMS(**{**SMALL, "budget": Budget(budget)})], tokens(PROMPT))
        assert near(sequence).attention_mass is None and near(sequence).log_weight is None
        layer = sequence.layers[0]
        assert not layer.observation.stride and layer.steps_plainly(1)
        kept = layer.groups[0].kept()
        teacher_force(sequence, tokens(20, seed=1))
        assert layer.groups[0].kept() == kept + 20


@pytest.mark.parametrize("weigh", ["mass", "members"])
def test_weights_are_stored_and_new_tokens_weigh_one(weigh: str) -> None:
    sequence = read(tiny("llama"), [EMS(**SMALL, weigh=weigh)], tokens(PROMPT))
    teacher_force(sequence, tokens(20, seed=1))
    weight = near(sequence).log_weight
    assert weight is not None and not weight[:, -28:].any()
    assert bool((weight >= 0).all()) and bool((weight > 0).any())


@pytest.fixture(scope="module")
def wide() -> AdaptedModel:
    """Heads as wide as SmolLM2's, in bf16: side tensors weigh what they weigh there."""
    model = tiny_model("llama", hidden_size=128, head_dim=64, max_position_embeddings=2048)
    return adapt(model.to(torch.bfloat16), verify=False)


@pytest.mark.parametrize("budget", ["400", "25%", "300KB"])
@pytest.mark.parametrize("more", [{}, {"weigh": "mass"}, {"merge": False}], ids=str)
def test_bytes_held_are_within_three_percent_of_the_budget(
    more: dict[str, object], budget: str, wide: AdaptedModel
) -> None:
    method = EMS(budget=Budget.parse(budget), **more)  # type: ignore[arg-type]
    sequence = read(wide, [method], tokens(1600))
    asked = layer_tokens(Budget.parse(budget), wide, 1600) * wide.bytes_per_token
    assert 0.97 * asked < sequence.nbytes() <= asked


@pytest.mark.parametrize("codec", [Int8(), Kivi(bits=4, residual=32)], ids=str)
def test_merged_entries_can_be_encoded(codec: Method) -> None:
    model, more = tiny("llama"), tokens(30, seed=1)
    method = EMS(**{**SMALL, "budget": Budget(90)})
    with pytest.raises(Refused, match="without their weights"):
        resolve([EMS(**SMALL, weigh="mass"), codec], model)
    alone = teacher_force(read(model, [method], tokens(PROMPT)), more)
    both = teacher_force(read(model, [method, codec], tokens(PROMPT)), more)
    assert 0 < float((both - alone).abs().mean()) < 0.2 * float(alone.abs().mean())


def test_what_cannot_be_served_is_refused_before_anything_is_read() -> None:
    model = tiny("llama")
    with pytest.raises(Refused, match="ems works on keys at the positions"):
        resolve([DynamicNTK(), EMS()], model)
    with pytest.raises(Refused, match="ems needs every key near"):
        resolve([SelfExtend(group=4, window=32), EMS()], model)
    with pytest.raises(Refused, match="window"):
        resolve([EMS()], tiny("mistral"))
    with pytest.raises(Refused, match="odd"):
        resolve([EMS(kernel=4)], model)
    with pytest.raises(RecipeError, match="merge"):
        EMS(merge=False, threshold=0.5)
    with pytest.raises(Refused, match="window alone"):
        resolve([EMS(budget=Budget(16))], model)
