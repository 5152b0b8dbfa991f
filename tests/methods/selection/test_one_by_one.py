"""What single selections promise: HiP's search, Quest's bound, what represents a block."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import Queries
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill
from lengthwise.engine.plan import Plan
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method
from lengthwise.methods.selection import hip, token_select
from lengthwise.methods.selection.hip import HiP, rounds, tree_search
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.methods.selection.quest import Pages, Quest
from lengthwise.methods.selection.token_select import TokenSelect
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.rope import FrequencyRule
from lengthwise.testing.tiny import tiny_model, tokens
from tests.methods.selection.selection_runs import (
    CHOOSING,
    LENGTH,
    READING_ALL,
    feed,
    plan_of,
    read_all,
    read_on,
)


def test_a_block_is_represented_by_its_most_attended_keys() -> None:
    memory = InfLLM(budget=64, window=8, init=2, block=4, representatives=2).start_selector(None)
    key, attention_mass = torch.randn(1, 12, 8), torch.rand(1, 12)
    far = KVStore()
    for start, stop in [(0, 5), (5, 6), (6, 12)]:
        index = torch.arange(start, stop)[None].int()
        entries = KVEntries(
            key[:, start:stop], key[:, start:stop], index, None, attention_mass[:, start:stop]
        )
        memory.extend(entries, far)
    assert memory.index.shape == (1, 2, 8)
    best = attention_mass[0, 6:10].topk(2).indices + 6
    assert torch.allclose(memory.index[0, 1], key[0, best].mean(0))


def test_positions_of_a_choice_are_contiguous() -> None:
    method = TokenSelect(budget=28, window=16, init=4)
    votes = method.start_selector(facts())
    far = KVStore()
    append(votes, far, 40)
    index = torch.arange(56, 60)
    queries = Queries(torch.randn(4, 4, 8), torch.randn(4, 4, 8), index, 16, False, (56, 59), 40)
    choice = votes.plan(queries, far)
    count = len(choice.ids)
    # The last query reads 20 keys that are no far ones, and 4 first ones.
    assert count == 8 and choice.ids[:4].tolist() == [0, 1, 2, 3]
    assert bool((choice.ids.diff() > 0).all())
    assert choice.key_positions.tolist() == list(range(count))
    # 16 near keys lie between the chosen and the first query.
    assert choice.query_positions.tolist() == list(range(count + 16, count + 20))


@pytest.mark.parametrize(("reuse", "fewer"), [(1.0, False), (0.0, True)])
def test_only_a_threshold_below_one_reuses(
    llama: AdaptedModel, monkeypatch: pytest.MonkeyPatch, reuse: float, fewer: bool
) -> None:
    votes = []
    plain = token_select._Votes._vote
    monkeypatch.setattr(token_select._Votes, "_vote", lambda *a: votes.append(1) or plain(*a))
    method = dataclasses.replace(CHOOSING[1], reuse=reuse)
    sequence = Sequence(llama, plan_of(method, llama))
    prefill(sequence, tokens(64), 16)
    votes.clear()
    read_on(sequence, tokens(20, seed=1))
    assert (len(votes) < 20 * len(llama.layers)) == fewer


def test_token_select_keeps_the_amplitude_of_its_keys() -> None:
    """Keys that are turned back and forth under a frequency rule carry its amplitude once."""
    model = adapt(tiny_model("llama", initializer_range=0.15))
    rule = FrequencyRule(lambda freq, facts, length: (freq / 2, 1.3))
    text = tokens(LENGTH)
    full = read_all(model, Plan(rule=rule), text, LENGTH, 0)
    plan = dataclasses.replace(plan_of(READING_ALL[1], model), rule=rule)
    assert float((read_all(model, plan, text, 16, 8) - full).abs().max()) < 1e-4


@pytest.mark.parametrize("size", [1, 3, 16])
def test_quest_bound_is_never_below_the_largest_logit(size: int) -> None:
    pages = Quest(budget=1000, page=size, dense=0).start_selector(facts())
    assert isinstance(pages, Pages)
    far = KVStore()
    for count in (5, 1, 30, 2, 16):
        append(pages, far, count)
    query = torch.randn(4, 8)
    bound = pages.scores(query)
    key = far.blocks()[0].key.repeat_interleave(2, 0)
    logits = torch.einsum("hd,hkd->hk", query, key)
    for page in range(bound.shape[1]):
        largest = logits[:, page * size : (page + 1) * size].amax(1)
        assert bool((bound[:, page] >= largest - 1e-5).all())


def test_quest_reads_the_first_layers_whole() -> None:
    assert Quest(dense=2).start_selector(facts(1)) is None
    assert Quest(dense=2).start_selector(facts(2)) is not None


@pytest.mark.parametrize("sample", ["first", "middle"])
def test_hip_visits_grow_like_log_n(monkeypatch: pytest.MonkeyPatch, sample: str) -> None:
    plain = hip.block_scores
    visits: list[int] = []
    monkeypatch.setattr(
        hip, "block_scores", lambda q, k, b: visits.append(b.numel()) or plain(q, k, b)
    )
    for doublings in range(1, 7):
        visits.clear()
        keys = torch.randn(1, 32 << doublings, 2, 8)
        tree_search(torch.randn(2, 1, 8), keys, 32, sample)
        searched = doublings + 1 if sample == "first" else 2 * doublings
        assert sum(visits) == 2 * 32 * searched


@pytest.mark.parametrize(("sample", "found"), [("middle", 1), ("first", 2)])
def test_hip_scores_a_half_by_the_block_asked(sample: str, found: int) -> None:
    """Of four blocks the halves are 0 with 1 and 2 with 3; only 1 and, weaker, 2 stand out."""
    keys = torch.tensor([0.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1, 1)
    assert tree_search(torch.ones(1, 1, 1), keys, 1, sample).tolist() == [[found]]


@pytest.mark.parametrize("interval", [1, 5, 8])
def test_hip_searches_once_an_interval(
    llama: AdaptedModel, monkeypatch: pytest.MonkeyPatch, interval: int
) -> None:
    """A window of 64 moves every 16 tokens, at 63, 79, 95: so masks begin anew there too."""
    method = HiP(budget=112, window=64, init=4, dense=0, interval=interval)
    sequence = Sequence(llama, plan_of(method, llama))
    prefill(sequence, tokens(127), 32)
    sequence.end_prefill()
    searched, plain = [], hip.tree_search
    monkeypatch.setattr(hip, "tree_search", lambda *a: searched.append(1) or plain(*a))
    rooms, counts = [], []
    for token in tokens(32, seed=4):
        rooms.append(sequence.tokens_until_change())
        searched.clear()
        feed(sequence, [token])
        counts.append(len(searched))
    begins = [i % 16 % interval == 0 for i in range(32)]
    assert counts == [len(llama.layers) * begin for begin in begins]
    # A draft stops where the next mask begins.
    left = [next(j for j in range(1, 17) if (i + j) % 16 % interval == 0) for i in range(32)]
    assert rooms == (left if interval > 1 else [16 - i % 16 for i in range(32)])


@pytest.mark.parametrize("start", range(127, 137))
def test_a_draft_within_an_interval_equals_steps(llama: AdaptedModel, start: int) -> None:
    method = HiP(budget=112, window=64, init=4, dense=0, interval=5)
    sequence = Sequence(llama, plan_of(method, llama))
    text = tokens(140)
    prefill(sequence, text[:start], 32)
    sequence.end_prefill()
    path = text[start : start + min(3, sequence.tokens_until_change() or 3)]
    plain = sequence.fork()
    tree = Tree(path[0])
    tree.add_chain([(t + 1) % 60 + 3 for t in path[1:]])
    tree.add_chain(path[1:])
    accepted = [0, *range(len(path), 2 * len(path) - 1)]
    (logits,), (block,) = extend([(sequence, tree.tokens, tree)], "all")
    assert float((logits[accepted] - read_on(plain, path)).abs().max()) < 1e-4
    sequence.commit(block, path, accepted)
    after = tokens(9, seed=5)
    assert float((read_on(sequence, after) - read_on(plain, after)).abs().max()) < 1e-4


@pytest.mark.parametrize("blocks", [9, 16, 31, 100])
def test_hip_finds_different_blocks_and_a_hill(blocks: int) -> None:
    """Where neighbours are alike, halving finds the best block."""
    top = blocks // 3
    height = -(torch.arange(blocks) - top).abs().float()
    keys = torch.zeros(1, blocks, 1, 4)
    keys[0, :, 0, 0] = height
    query = torch.zeros(1, 1, 4)
    query[..., 0] = 1.0
    found = tree_search(query, keys, 8)[0]
    assert len(set(found.tolist())) == 8
    assert top in found.tolist()
    assert rounds(blocks, 8) == math.ceil(math.log2(math.ceil(blocks / 8)))


def mass(query: Tensor, key: Tensor, ids: Tensor) -> float:
    """Softmax share of query `[heads, 1, d]` over key `[kv_heads, n, d]` on ids `[heads, m]`."""
    each = query.shape[0] // key.shape[0]
    share = torch.einsum("hqd,hnd->hn", query, key.repeat_interleave(each, 0)).softmax(-1)
    return float(share.gather(1, ids.expand(len(share), -1)).sum(1).mean())


@pytest.mark.parametrize("name", ["token_select", "quest", "hip"])
def test_mass_grows_with_the_budget_and_beats_chance(name: str) -> None:
    found = []
    for budget in (64, 128, 256, 496):
        method: Method = {
            "token_select": TokenSelect(budget=budget, window=16, init=0),
            "quest": Quest(budget=budget, window=16, page=8, dense=0),
            "hip": HiP(budget=budget, window=16, init=0, block=2, dense=0),
        }[name]
        selector = method.start_selector(facts())
        far = KVStore()
        torch.manual_seed(0)
        # A walk: neighbours are alike, as keys of neighbouring tokens are.
        walk = torch.randn(2, 480, 8).cumsum(1) / 6
        append(selector, far, 480, walk)
        query = torch.randn(4, 1, 8)
        choice = selector.plan(
            Queries(query, query, torch.tensor([495]), 16, True, (495, 495), 480), far
        )
        ids = choice.ids if choice is not None else torch.arange(480)
        found.append(mass(query, walk, ids))
        assert found[-1] > (budget - 16) / 480 or budget == 496
    assert found == sorted(found)
    assert found[-1] == pytest.approx(1.0, abs=1e-4)


def test_an_even_pool_has_no_middle() -> None:
    with pytest.raises(RecipeError, match="such as 5"):
        TokenSelect(pool=4)
    assert TokenSelect(pool=5).pool == 5


@dataclasses.dataclass(frozen=True)
class _Facts:
    index: int
    scaling: float = 8**-0.5


def facts(index: int = 0) -> _Facts:
    return _Facts(index)


def append(selector: object, far: KVStore, count: int, key: Tensor | None = None) -> None:
    key = torch.randn(2, count, 8) if key is None else key
    index = torch.arange(len(far), len(far) + count)[None].int()
    entries = KVEntries(key, key, index)
    far.append(entries)
    selector.extend(entries, far)  # type: ignore[attr-defined]
