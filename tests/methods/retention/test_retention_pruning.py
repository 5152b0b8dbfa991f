"""SnapKV, PyramidKV, H2O and RazorAttention keep the laws and do what their papers say."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lengthwise.engine.attention.attend import Part, attend
from lengthwise.engine.attention.scores import attend_plain
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.placement import ORDINARY
from lengthwise.engine.kv_cache.received import received_attention
from lengthwise.engine.kv_cache.retention import CacheUpdate, Phase
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import begin, finish, prefill, run, start, teacher_force
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import Refused
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.codecs.int8 import Int8
from lengthwise.methods.codecs.kivi import Kivi
from lengthwise.methods.codecs.think import Think
from lengthwise.methods.positions.dynamic_ntk import DynamicNTK
from lengthwise.methods.positions.self_extend import SelfExtend
from lengthwise.methods.retention.counting import affordable, layer_tokens
from lengthwise.methods.retention.h2o import H2O
from lengthwise.methods.retention.pyramidkv import PyramidKV, pyramid
from lengthwise.methods.retention.razor import OnEvict, Razor, choose_heads
from lengthwise.methods.retention.snapkv import SnapKV
from lengthwise.methods.retention.votes import pool
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tiny_model, tokens

FAMILIES = ["llama", "gemma3_text", "qwen3", "gpt_oss", "deepseek_v3"]
KINDS = [SnapKV, PyramidKV, H2O, Razor]
PROMPT = 150
SMALL: list[Method] = [
    SnapKV(budget=Budget(60), window=8, kernel=3),
    PyramidKV(budget=Budget(60), window=8, pooling="max"),
    H2O(budget=Budget(60)),
    H2O(budget=Budget(130), normalise=True),
    Razor(heads=0.5, buffer=40),
    Razor(heads=0.0, buffer=130, compensate=False),
]


def read(model: AdaptedModel, plan: Plan, prompt: Seq[int], chunk: int = 64) -> Sequence:
    sequence = Sequence(model, plan)
    prefill(sequence, prompt, chunk)
    sequence.end_prefill()
    return sequence


def forced(model: AdaptedModel, methods: Seq[Method], text: Seq[int], chunk: int = 64) -> Tensor:
    plan = resolve(methods, model) if methods else FULL
    return teacher_force(read(model, plan, text[:PROMPT], chunk), text[PROMPT:])


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_identity_equals_full_attention(family: str, kind: type[Method]) -> None:
    model, text = tiny(family), tokens(PROMPT + 30)
    method = kind.identity(len(text))
    assert method is not None
    assert difference(forced(model, [method], text), forced(model, [], text)) < 1e-4


@pytest.mark.parametrize("method", SMALL, ids=str)
def test_something_is_dropped_and_chunks_do_not_matter(method: Method) -> None:
    model, text = tiny("qwen3"), tokens(PROMPT + 30)
    one = forced(model, [method], text, PROMPT)
    assert difference(one, forced(model, [], text)) > 1e-3
    assert difference(one, forced(model, [method], text, 17)) < 1e-4


class _Oracle(Drafter):
    """Guesses what is known to come, and a wrong token beside it."""

    name = "oracle"

    def __init__(self, text: list[int]) -> None:
        self.text = text

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        tree.add_chain(self.text[len(tokens) : len(tokens) + min(limit, 7)], source=self.name)
        tree.add(0, 3, self.name)


@pytest.mark.parametrize("method", SMALL, ids=str)
def test_evicted_then_drafted_equals_evicted_greedy(method: Method) -> None:
    model, prompt = tiny("llama"), tokens(PROMPT)

    def generate(text: list[int] | None) -> tuple[list[int], Sequence, float]:
        plan = resolve([method], model)
        if text is not None:
            plan = replace(plan, drafters=(lambda: _Oracle(text),))
        sequence = Sequence(model, plan)
        request = begin(sequence, Sampling(), 80, [])
        start(request, prefill(sequence, prompt, 32))
        # Everything is verified: a policy that goes by the clock may guess nothing.
        for _ in run(request, Fixed()):
            pass
        return request.output, sequence, finish(request).accepted_per_step

    plain, stepwise, _ = generate(None)
    drafted, sequence, speed = generate(prompt + plain)
    assert drafted == plain
    # A budget of 60 tokens drops one a step, which leaves no room for guesses.
    assert speed > 1.3 or isinstance(method, H2O | Razor)
    for mine, theirs in zip(sequence.layers, stepwise.layers, strict=True):
        for a, b in zip(mine.groups, theirs.groups, strict=True):
            assert torch.equal(a.near.index(), b.near.index())


@pytest.mark.parametrize("method", SMALL, ids=str)
def test_a_fork_leaves_the_original_alone(method: Method) -> None:
    model, text = tiny("llama"), tokens(PROMPT + 40)
    sequence = read(model, resolve([method], model), text[:PROMPT])
    teacher_force(sequence.fork(), tokens(60, seed=1))
    assert torch.equal(teacher_force(sequence, text[PROMPT:]), forced(model, [method], text))


@pytest.fixture(scope="module")
def wide() -> AdaptedModel:
    """Heads as wide as SmolLM2's, in bf16: side tensors weigh what they weigh there."""
    model = tiny_model("llama", hidden_size=128, head_dim=64, max_position_embeddings=2048)
    return adapt(model.to(torch.bfloat16), verify=False)


@pytest.mark.parametrize("budget", ["400", "25%", "300KB"])
@pytest.mark.parametrize("kind", [SnapKV, PyramidKV, H2O])
def test_bytes_held_are_within_three_percent_of_the_budget(
    kind: type[SnapKV | PyramidKV | H2O], budget: str, wide: AdaptedModel
) -> None:
    text = tokens(1600)
    plan = resolve([kind(budget=Budget.parse(budget))], wide)
    sequence = read(wide, plan, text, 256)
    asked = layer_tokens(Budget.parse(budget), wide, len(text)) * wide.bytes_per_token
    assert abs(sequence.nbytes() / asked - 1) < 0.03
    teacher_force(sequence, tokens(40, seed=1))
    # What is generated comes on top, in memory that grows 16 entries at a time.
    more = 0 if kind is H2O else 48 * wide.bytes_per_token
    assert abs(sequence.nbytes() / (asked + more) - 1) < 0.03


def test_razor_holds_what_its_heads_keep(wide: AdaptedModel) -> None:
    sequence = read(wide, resolve([Razor(heads=0.25, buffer=256)], wide), tokens(1600), 256)
    expected = (1600 + 3 * (320 + 5)) * wide.bytes_per_token / 4
    assert abs(sequence.nbytes() / expected - 1) < 0.03


def test_windows_of_the_model_are_paid_from_a_budget_in_bytes() -> None:
    model = tiny("gemma3_text")
    sequence = read(model, resolve([SnapKV(budget=Budget(64, "KB"), window=8)], model), tokens(400))
    # Few entries here: an overhang of the model's own windows is all that may differ.
    assert abs(sequence.nbytes() / 64_000 - 1) < 0.03
    with pytest.raises(Refused, match="own windows"):
        layer_tokens(Budget(1, "KB"), model, 400)


def test_every_head_pays_for_its_index_and_statistic() -> None:
    layer = tiny("llama").layers[0]
    plain = 2 * layer.entry_numbers
    entries = affordable(layer, torch.bfloat16, 1000, attention_mass=True)
    assert entries * (plain + 8 * layer.num_kv_heads) <= 1000 * plain
    assert (entries + 1) * (plain + 8 * layer.num_kv_heads) > 1000 * plain


def test_votes_are_the_probabilities_of_the_last_queries() -> None:
    model, text = tiny("llama"), tokens(60)
    sequence = Sequence(model, replace(FULL, retention=lambda: _Watcher(8)))
    prefill(sequence, text, 23)
    sequence.end_prefill()
    votes, update, group = sequence.retention.seen  # type: ignore[union-attr]
    keys = group.near.read()
    mask = torch.arange(60)[None] <= torch.arange(52, 60)[:, None]
    part = Part(update.queries[:, -8:], keys.key, torch.eye(60).expand(2, -1, -1), mask)
    rows, _ = attend_plain([part], update.layer.scaling)
    assert difference(votes, rows.sum(1)) < 1e-5


class _Watcher:
    wants_attention_mass = wants_token_nll = False

    def __init__(self, window: int) -> None:
        self.window = window
        self.seen: tuple[Tensor, CacheUpdate, HeadGroup] | None = None

    def retain(self, group: HeadGroup, update: CacheUpdate) -> None:
        if update.phase is Phase.PREFILL and self.seen is None:
            self.seen = received_attention(group, update, self.window), update, group

    def tokens_until_change(self, sequence: Sequence) -> None:
        return None


def test_pooling_spreads_votes_and_counts_zeros_beyond_the_ends() -> None:
    votes = torch.tensor([[4.0, 0, 0, 0, 2.0]])
    assert pool(votes, 3, "max").tolist() == [[4, 4, 0, 2, 2]]
    assert torch.allclose(pool(votes, 3, "avg"), torch.tensor([[4 / 3, 4 / 3, 0, 2 / 3, 2 / 3]]))


def test_snapkv_keeps_the_window_and_nothing_after_the_prompt_is_dropped() -> None:
    model, text = tiny("llama"), tokens(PROMPT + 20)
    method = SnapKV(budget=Budget(60), window=8)
    sequence = read(model, resolve([method], model), text[:PROMPT])
    index = sequence.layers[0].groups[0].near.index()
    assert index[:, -8:].tolist() == [list(range(PROMPT - 8, PROMPT))] * 2
    assert not torch.equal(index[0], index[1])
    assert bool((index.diff(dim=1) > 0).all())
    kept = index.shape[1]
    teacher_force(sequence, text[PROMPT:])
    assert sequence.layers[0].groups[0].kept() == kept + 20


@pytest.mark.parametrize("position", [DynamicNTK(), SelfExtend(group=4, window=32)], ids=str)
@pytest.mark.parametrize("kind", [SnapKV, PyramidKV])
def test_voting_works_where_keys_are_placed_anew(position: Method, kind: type[Method]) -> None:
    model, text = tiny("llama"), tokens(PROMPT + 30)
    everything = kind.identity(len(text))
    assert everything is not None
    both = forced(model, [position, everything], text)
    assert difference(both, forced(model, [position], text)) < 1e-4
    less = forced(model, [position, kind(budget=Budget(90), window=8)], text)  # type: ignore[call-arg]
    assert difference(both, less) > 1e-4


def test_a_window_that_takes_the_budget_is_refused() -> None:
    model = tiny("llama")
    plan = resolve([SelfExtend(group=4, window=64), SnapKV(budget=Budget(40), window=8)], model)
    with pytest.raises(Refused, match="window"):
        read(model, plan, tokens(PROMPT))
    with pytest.raises(Refused, match="window"):
        resolve([SnapKV(budget=Budget(16))], model)
    with pytest.raises(Refused, match="odd"):
        resolve([SnapKV(kernel=4)], model)


@pytest.mark.parametrize("method", [SnapKV(), PyramidKV(), H2O(), Razor()], ids=str)
def test_a_model_of_windows_alone_is_refused(method: Method) -> None:
    with pytest.raises(Refused, match="window"):
        resolve([method], tiny("mistral"))


@pytest.mark.parametrize(("cap", "length"), [(96, 4096), (1024, 4096), (3000, 4096), (33, 4096)])
def test_a_pyramid_falls_and_sums_to_its_budget(cap: int, length: int) -> None:
    budgets = pyramid(cap, length, 32, 30, 20.0)
    assert 30 * cap - 1 <= sum(budgets) <= 30 * cap
    assert max(budgets) <= length and min(budgets) >= 32
    assert all(a >= b - 1 for a, b in zip(budgets, budgets[1:], strict=False))


def test_a_flat_pyramid_is_snapkv() -> None:
    assert pyramid(100, 4096, 32, 30, 1.0) == [100] * 30
    model, text = tiny("llama"), tokens(PROMPT + 10)
    flat = forced(model, [PyramidKV(budget=Budget(60), window=8, beta=1)], text)
    assert torch.equal(flat, forced(model, [SnapKV(budget=Budget(60), window=8)], text))


@pytest.mark.parametrize("position", [None, DynamicNTK()], ids=str)
def test_heavy_hitters_are_the_largest_sums_of_probability(position: Method | None) -> None:
    model, text = tiny("llama"), tokens(PROMPT)
    # With a budget no prompt exceeds, the sums stay to be looked at: each query gives 1 in all.
    methods = [m for m in (position, H2O(budget=Budget(PROMPT))) if m is not None]
    sequence = read(model, resolve(methods, model), text, 40)
    attention_mass = sequence.layers[0].groups[0].near.tail.attention_mass  # type: ignore[union-attr]
    assert torch.allclose(attention_mass.sum(1), torch.full((2,), 2.0 * PROMPT), atol=1e-2)
    methods[-1] = H2O(budget=Budget(64), recent=0.25)
    pruned = read(model, resolve(methods, model), text, 40).layers[0].groups[0].near.index()
    count = pruned.shape[1]
    latest = round(count * 0.25)
    heavy = attention_mass[:, : PROMPT - latest].topk(count - latest).indices.sort(1).values
    assert torch.equal(pruned[:, : count - latest].long(), heavy)
    assert pruned[0, -latest:].tolist() == list(range(PROMPT - latest, PROMPT))


def test_h2o_never_exceeds_its_budget_while_decoding() -> None:
    model = tiny("llama")
    sequence = read(model, resolve([H2O(budget=Budget(128))], model), tokens(PROMPT))
    for token in tokens(60, seed=2):
        teacher_force(sequence, [token])
        assert sequence.layers[0].groups[0].kept() <= 128
    later = read(model, resolve([H2O(budget=Budget(200))], model), tokens(PROMPT))
    assert later.tokens_until_change() == 51
    teacher_force(later, tokens(60, seed=2))
    assert later.layers[0].groups[0].kept() <= 200


def test_one_entry_of_log_weight_n_is_n_entries() -> None:
    query, key = torch.randn(4, 3, 16), torch.randn(2, 9, 16)
    value = torch.randn(2, 9, 16)
    fold = OnEvict(0, True)
    group = HeadGroup(ORDINARY)
    entries = KVEntries(key[:, :1].expand(-1, 6, -1), value[:, :1].expand(-1, 6, -1),
                      torch.arange(6)[None].int())  # fmt: skip
    fold(group, entries)
    held = group.far.read()
    assert held is not None and len(held) == 1
    ours, _ = attend([Part(query, held.key, held.value, log_weight=held.log_weight),
                      Part(query, key, value)], 0.25)  # fmt: skip
    copies = Part(query, torch.cat([entries.key, key], 1), torch.cat([entries.value, value], 1))
    assert difference(ours, attend_plain([copies], 0.25)[0]) < 1e-5


def test_the_compensation_entry_is_the_mean_of_all_that_left() -> None:
    model, text = tiny("llama"), tokens(PROMPT + 25)
    sequence = read(model, resolve([Razor(heads=0.0, buffer=64)], model), text[:PROMPT])
    teacher_force(sequence, text[PROMPT:])
    full = Sequence(model)
    prefill(full, text, 64)
    # The first layer sees the same hidden states whatever attention did.
    (group,), (stock,) = sequence.layers[0].groups, full.layers[0].groups
    near, far, every = group.near.read(), group.far.read(), stock.near.read()
    assert near is not None and far is not None and every is not None
    stop = int(near.index[0, 0])
    assert far.index[0, :4].tolist() == [0, 1, 2, 3]
    assert len(near) == len(text) - stop and 64 <= len(near) + 1 <= 66
    assert torch.allclose(far.key[:, 4], every.key[:, 4:stop].mean(1), atol=1e-5)
    assert torch.allclose(far.value[:, 4], every.value[:, 4:stop].mean(1), atol=1e-5)
    assert torch.allclose(far.log_weight[0, 4].exp(), torch.tensor(stop - 4.0))  # type: ignore[index]


def test_retrieval_heads_keep_everything() -> None:
    model, text = tiny("llama"), tokens(PROMPT + 20)
    every = forced(model, [Razor(heads=1.0, buffer=1)], text)
    assert difference(every, forced(model, [], text)) < 1e-4
    sequence = read(model, resolve([Razor(heads=0.5, buffer=32)], model), text[:PROMPT])
    kept = [g.kept() for layer in sequence.layers for g in layer.groups for _ in range(
        2 if g.heads is None else len(g.heads))]  # fmt: skip
    assert sorted(kept)[-2:] == [PROMPT, PROMPT] and max(sorted(kept)[:2]) < 40


@pytest.mark.parametrize("position", [DynamicNTK(), SelfExtend()], ids=str)
def test_a_mean_of_rotated_keys_is_never_moved(position: Method) -> None:
    with pytest.raises(Refused, match="razor"):
        resolve([position, Razor()], tiny("llama"))


@pytest.mark.parametrize("codec", [Int8(), Kivi(bits=4, residual=32), Think(ratio=0.1)], ids=str)
def test_ragged_heads_can_be_encoded(codec: Method) -> None:
    model, text = tiny("llama"), tokens(PROMPT + 40)
    alone = forced(model, [Razor(heads=0.5, buffer=64)], text)
    both = forced(model, [Razor(heads=0.5, buffer=64), codec], text)
    assert 0 < float((both - alone).abs().mean()) < 0.2 * float(alone.abs().mean())


def test_head_choice_is_a_union_of_the_two_scores() -> None:
    echo, induction = torch.zeros(30), torch.zeros(30)
    echo[0], echo[7] = 1.0, 0.5
    induction[12:16] = torch.tensor([0.4, 0.3, 0.2, 0.1])
    assert choose_heads(echo, induction, 0.15).nonzero()[:, 0].tolist() == [0, 12, 13, 14, 15]
    assert choose_heads(echo, induction, 1.0).all() and not choose_heads(echo, induction, 0.0).any()
