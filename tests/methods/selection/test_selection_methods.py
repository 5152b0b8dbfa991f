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
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend, prefill
from lengthwise.engine.plan import FULL
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.selection.hip import HiP
from lengthwise.methods.selection.infllm import InfLLM
from lengthwise.methods.selection.quest import Quest
from lengthwise.methods.selection.squeezed import Squeezed
from lengthwise.methods.selection.token_select import TokenSelect
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
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


@pytest.mark.parametrize("method", READING_ALL, ids=str)
def test_a_budget_for_everything_equals_full(model: AdaptedModel, method: Method) -> None:
    text = tokens(LENGTH)
    full = read_all(model, FULL, text, LENGTH, 0)
    found = read_all(model, plan_of(method, model), text, 16, 8)
    assert float((found - full).abs().max()) < 1e-4


@pytest.mark.parametrize("cls", [InfLLM, TokenSelect, Quest, HiP, Squeezed])
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


# TokenSelect.


# Quest.


# HiP.


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


def test_methods_that_place_keys_need_rotary_positions() -> None:
    model = adapt(tiny_model("gpt2"))
    for method in (InfLLM(), TokenSelect()):
        with pytest.raises(Refused):
            method.check(model)
