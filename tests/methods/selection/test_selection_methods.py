"""Selections: exact where they may read everything, faithful to drafting, right in their parts."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lengthwise.engine.attention.attend import Part, attend
from lengthwise.engine.kv_cache import layer_cache as engine_layer
from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import Queries
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.selection import hip, token_select
from lengthwise.methods.selection.hip import HiP, rounds, tree_search
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.methods.selection.quest import Pages, Quest
from lengthwise.methods.selection.token_select import TokenSelect
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.rope import FrequencyRule
from lengthwise.testing.tiny import tiny_model, tokens

LENGTH = 72
READING_ALL: list[Method] = [
    InfLLM(budget=400, window=LENGTH + 8, init=4, block=8, query_block=16),
    TokenSelect(budget=200, window=16, init=4, query_block=16),
    Quest(budget=200, window=16, page=4, dense=0),
    HiP(budget=200, window=16, init=4, dense=0, query_block=16),
]
CHOOSING: list[Method] = [
    InfLLM(budget=36, window=16, init=4, block=4, query_block=16, representatives=2),
    TokenSelect(budget=28, window=16, init=4, query_block=16),
    TokenSelect(budget=28, window=16, init=4, query_block=16, reuse=0.5),
    TokenSelect(k=8, window=16, init=4, query_block=16),
    Quest(budget=36, window=16, page=4, dense=0),
    HiP(budget=28, window=16, init=4, block=2, dense=0, query_block=8, interval=1),
    HiP(budget=28, window=16, init=4, block=2, dense=1, query_block=8),
    HiP(budget=28, window=16, init=4, block=2, dense=0, query_block=8, sample="first", interval=4),
]
FAMILIES = ("llama", "qwen3", "gemma3_text")


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> AdaptedModel:
    return adapt(tiny_model(request.param, initializer_range=0.15))


@pytest.fixture(scope="module")
def llama() -> AdaptedModel:
    return adapt(tiny_model("llama", initializer_range=0.15))


def plan_of(method: Method, model: AdaptedModel) -> Plan:
    placement = method.placement(model)
    assert placement is not None
    return Plan(str(method), None, placement, method.start_selector, lossless=False)


def feed(sequence: Sequence, part: list[int]) -> Tensor:
    (logits,), (block,) = extend([(sequence, part, None)], "all")
    sequence.commit(block, part)
    return logits


def read_all(model: AdaptedModel, plan: Plan, text: list[int], chunk: int, steps: int) -> Tensor:
    sequence = Sequence(model, plan)
    stop = len(text) - steps
    found = [feed(sequence, text[i : min(i + chunk, stop)]) for i in range(0, stop, chunk)]
    sequence.end_prefill()
    return torch.cat(found + [feed(sequence, [token]) for token in text[stop:]])


@pytest.mark.parametrize("method", READING_ALL, ids=str)
def test_a_budget_for_everything_equals_full(model: AdaptedModel, method: Method) -> None:
    text = tokens(LENGTH)
    full = read_all(model, FULL, text, LENGTH, 0)
    found = read_all(model, plan_of(method, model), text, 16, 8)
    assert float((found - full).abs().max()) < 1e-4


@pytest.mark.parametrize("cls", [InfLLM, TokenSelect, Quest, HiP])
def test_identity_setting_equals_full(llama: AdaptedModel, cls: type[Method]) -> None:
    method = cls.identity(LENGTH)
    assert method is not None
    text = tokens(LENGTH)
    found = read_all(llama, plan_of(method, llama), text, 16, 8)
    assert float((found - read_all(llama, FULL, text, LENGTH, 0)).abs().max()) < 1e-4


@pytest.mark.parametrize("method", CHOOSING, ids=str)
def test_a_small_budget_reads_less(llama: AdaptedModel, method: Method) -> None:
    text = tokens(LENGTH)
    found = read_all(llama, plan_of(method, llama), text, 16, 8)
    full = read_all(llama, FULL, text, LENGTH, 0)
    assert float((found[-1] - full[-1]).abs().max()) > 1e-3


def drafted(model: AdaptedModel, method: Method, length: int) -> tuple[Sequence, Tree, list[int]]:
    """A sequence that has read `length` tokens, a draft with a wrong branch, and the right path."""
    text = tokens(length + 4)
    sequence = Sequence(model, plan_of(method, model))
    prefill(sequence, text[:length], 16)
    sequence.end_prefill()
    tree = Tree(text[length])
    tree.add_chain([(t + 1) % 60 + 3 for t in text[length + 1 :]])
    tree.add_chain(text[length + 1 :])
    return sequence, tree, text[length:]


@pytest.mark.parametrize("method", CHOOSING, ids=str)
def test_drafted_equals_step_by_step(model: AdaptedModel, method: Method) -> None:
    sequence, tree, path = drafted(model, method, 63)
    assert (sequence.tokens_until_change() or math.inf) >= len(path)
    plain = sequence.fork()
    one_by_one = torch.cat([feed(plain, [token]) for token in path])
    (logits,), (block,) = extend([(sequence, tree.tokens, tree)], "all")
    accepted = [0, *range(len(path), 2 * len(path) - 1)]
    assert [tree.tokens[n] for n in accepted] == path
    assert float((logits[accepted] - one_by_one).abs().max()) < 1e-4
    sequence.commit(block, path, accepted)
    after = tokens(6, seed=5)
    assert float((read_on(sequence, after) - read_on(plain, after)).abs().max()) < 1e-4


@pytest.mark.parametrize("method", CHOOSING, ids=str)
def test_a_drafted_chain_equals_step_by_step(llama: AdaptedModel, method: Method) -> None:
    sequence, _, path = drafted(llama, method, 63)
    plain = sequence.fork()
    chain = Tree(path[0])
    chain.add_chain(path[1:])
    (logits,), _ = extend([(sequence, path, chain)], "all")
    assert float((logits - read_on(plain, path)).abs().max()) < 1e-4


def read_on(sequence: Sequence, part: list[int]) -> Tensor:
    return torch.cat([feed(sequence, [token]) for token in part])


@pytest.mark.parametrize("method", CHOOSING, ids=str)
def test_a_fork_leaves_the_original_alone(llama: AdaptedModel, method: Method) -> None:
    sequence, _, path = drafted(llama, method, 63)
    expected = read_on(sequence.fork(), path)
    read_on(sequence.fork(), tokens(20, seed=9))
    assert torch.equal(read_on(sequence, path), expected)


def test_drafts_stop_where_entries_leave_the_window(llama: AdaptedModel) -> None:
    sequence = Sequence(llama, plan_of(CHOOSING[1], llama))
    prefill(sequence, tokens(62), 16)
    moved = [len(sequence.layers[0].groups[0].far)]
    rooms = []
    for token in tokens(12, seed=2):
        rooms.append(sequence.tokens_until_change())
        feed(sequence, [token])
        moved.append(len(sequence.layers[0].groups[0].far))
    for before, after, room in zip(moved, moved[1:], rooms, strict=False):
        assert (after > before) == (room == 1)


# What a query reads.

INF = InfLLM(budget=640, window=256, init=32, block=32, query_block=128)
BUDGETED: list[Method] = [
    *(TokenSelect(budget=n, window=256, init=64, query_block=200) for n in (448, 640)),
    TokenSelect(budget=640, init=64),
    TokenSelect(budget="40%", window=64, init=8),
    TokenSelect(budget=640, window=256, init=64, reuse=0.3),
    *(HiP(budget=n, window=128, init=16, dense=0) for n in (192, 640)),
    HiP(budget=640, dense=0, block=4, interval=50, sample="first"),
    *(dataclasses.replace(INF, budget=Budget(n)) for n in (448, 640)),
    *(Quest(budget=n, dense=0) for n in (192, 640)),
]


@pytest.fixture(scope="module")
def shallow() -> AdaptedModel:
    return adapt(tiny_model("llama", initializer_range=0.15, num_hidden_layers=1,
                            max_position_embeddings=4096))  # fmt: skip


@pytest.mark.parametrize("chunk", [1024, 300, 48])
@pytest.mark.parametrize("method", BUDGETED, ids=str)
def test_no_query_reads_more_than_the_budget(
    shallow: AdaptedModel, monkeypatch: pytest.MonkeyPatch, method: Method, chunk: int
) -> None:
    length, steps, read = 1300, 24, keys_read(monkeypatch)
    read_all(shallow, plan_of(method, shallow), tokens(length), chunk, steps)
    assert len(read) == length
    budget, slack = method.budget, 0  # type: ignore[attr-defined]
    if isinstance(method, InfLLM):
        # Its text says so: a prompt's queries also read what left since their block began.
        slack = method.query_block - 1
    for index, count in enumerate(read):
        asked = budget.tokens(index + 1, 1.0)
        if isinstance(method, Quest) and index < length - steps:
            assert count == index + 1
        elif budget.unit == "%":
            # The window, its overhang and the first tokens, of which a small share has too few.
            assert count <= max(asked, 64 + 15 + 8 + 1)
        else:
            assert count <= asked + (slack if index < length - steps else 0)
    if budget.unit != "%" and getattr(method, "reuse", 1) == 1:
        assert min(read[-steps:]) > budget.amount - 72, "what may be read is read"


def test_k_tokens_are_chosen(shallow: AdaptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    read = keys_read(monkeypatch)
    method = TokenSelect(k=100, window=64, init=8)
    read_all(shallow, plan_of(method, shallow), tokens(400), 100, 20)
    assert set(read[-20:]) <= set(range(8 + 100 + 64, 8 + 100 + 64 + 16)) and len(set(read)) > 1


def keys_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by how many keys each query of a one-layer model reads, in the order of the text."""
    found: list[int] = []

    def recording(parts: list[Part], *rest: object, **more: object) -> object:
        found.extend(sum(visible(p).sum(1) for p in parts if p.key.shape[1]).tolist())
        return attend(parts, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(engine_layer, "attend", recording)
    return found


# InfLLM.


def test_all_blocks_retrieved_cover_every_key_once(
    llama: AdaptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values of the first layer depend on the token alone, so their sums tell which were read."""
    seen: list[Tensor] = []

    def recording(parts: list[Part], *rest: object, **more: object) -> object:
        parts = [p for p in parts if p.key.shape[1]]
        seen.append(torch.stack([visible_values(p) for p in parts]).sum(0))
        return attend(parts, *rest, **more)  # type: ignore[arg-type]

    method = InfLLM(budget=200, window=12, init=3, block=4, query_block=4)
    text = torch.randperm(90)[:60].tolist()
    sequence = Sequence(llama, plan_of(method, llama))
    layers = len(llama.layers)
    found: list[Tensor] = []
    for start, stop in pairwise((0, 12, 24, 31, 40, 41, 42, 54, 60)):
        with monkeypatch.context() as patch:
            patch.setattr(engine_layer, "attend", recording)
            feed(sequence, text[start:stop])
        first = seen[: len(seen) // layers]
        found.append(torch.cat(first, 0))
        seen.clear()
    group = sequence.layers[0].groups[0]
    values = torch.cat([s.read().value for s in (group.far, group.near) if s.read() is not None], 1)
    expected = values[0].cumsum(0)
    assert float((torch.cat(found) - expected).abs().max()) < 1e-3


def visible_values(part: Part) -> Tensor:
    """Sum of the values of head 0 that each query sees: `[queries, value_dim]`."""
    return visible(part).float() @ part.value[0]


def visible(part: Part) -> Tensor:
    """Which keys each query of head 0 sees: bool `[queries, keys]`."""
    queries, keys = part.query.shape[1], part.key.shape[1]
    sees = torch.ones(queries, keys, dtype=torch.bool)
    if part.causal:
        sees = sees.tril(keys - queries)
    if part.mask is not None:
        sees = part.mask.expand(1, queries, keys)[0] if part.mask.dim() == 3 else part.mask
    return sees


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


# TokenSelect.


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


# Quest.


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


# HiP.


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


# Options.


@pytest.mark.parametrize("cls", [InfLLM, TokenSelect, Quest, HiP])
def test_budgets_that_choose_nothing_are_refused(cls: type[Method]) -> None:
    with pytest.raises(RecipeError, match="must be left to choose"):
        cls(budget=Budget(72))  # type: ignore[call-arg]
    with pytest.raises(RecipeError, match=r"tokens \(2048\) or a share \(25%\)"):
        cls(budget="64MB")  # type: ignore[call-arg]
    assert cls(budget="25%") is not None  # type: ignore[call-arg]


def test_defaults_are_those_of_the_released_code() -> None:
    token = TokenSelect()
    assert (token.init, token.window, token.query_block, token.reuse) == (128, 512, 512, 1.0)
    assert token.budget == Budget(128 + 512 + 2048)
    found = HiP()
    assert found.budget == Budget(512 + 256 + 16) and (found.window, found.init) == (256, 16)
    assert (found.block, found.query_block, found.stride, found.dense) == (2, 64, 2, 3)
    assert (found.sample, found.interval) == ("middle", 8)


def test_k_and_budget_are_not_given_together() -> None:
    with pytest.raises(RecipeError, match="give one"):
        TokenSelect(k=100, budget=1024)
    assert TokenSelect(k=100).k == 100


def test_an_even_pool_has_no_middle() -> None:
    with pytest.raises(RecipeError, match="such as 5"):
        TokenSelect(pool=4)
    assert TokenSelect(pool=5).pool == 5


def test_methods_that_place_keys_need_rotary_positions() -> None:
    model = adapt(tiny_model("gpt2"))
    for method in (InfLLM(), TokenSelect()):
        with pytest.raises(Refused):
            method.check(model)


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
