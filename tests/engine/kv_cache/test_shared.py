"""Entries that several stores hold by reference: read like their own, copied before they change."""

from __future__ import annotations

import copy

import pytest
import torch

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import MOST_SHARED, KVStore
from lengthwise.engine.kv_cache.rollback import roll_back
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.together import sharing
from lengthwise.engine.loop import extend, prefill
from lengthwise.engine.plan import whole
from lengthwise.engine.speculative.tree import Tree
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny_model, tokens

TEXT = tokens(60)


@pytest.fixture(scope="module", params=["llama", "gpt_oss", "gemma2"])
def model(request: pytest.FixtureRequest) -> AdaptedModel:
    return adapt(tiny_model(request.param, initializer_range=0.15))


def entries(start: int, count: int) -> KVEntries:
    index = torch.arange(start, start + count, dtype=torch.int32)[None]
    return KVEntries(torch.randn(2, count, 4), torch.randn(2, count, 4), index)


def read(model: AdaptedModel, recipe: str = "full") -> Sequence:
    sequence = Sequence(model, whole(resolve(recipe, model)))
    sequence.reading = len(TEXT)
    prefill(sequence, TEXT[:40], 16)
    return sequence


def step(sequence: Sequence, new: list[int], tree: Tree | None = None) -> torch.Tensor:
    (logits,), (metadata,) = extend([(sequence, new, tree)], "all")
    sequence.commit(metadata, new[:1] if tree else new, [0] if tree else None)
    return logits


@pytest.mark.parametrize(
    "recipe", ["full", "yarn(factor=2)", "snapkv(budget=24, window=8)", "kivi(residual=8)"]
)
def test_a_branch_says_what_a_copy_says(model: AdaptedModel, recipe: str) -> None:
    plain, shared = read(model, recipe), read(model, recipe)
    branches = [shared.branch(), shared.branch()]
    for branch in branches:
        own = plain.fork()
        for sequence in (own, branch):
            prefill(sequence, TEXT[40:], 8)
        torch.testing.assert_close(branch.last_logits, own.last_logits, rtol=0, atol=1e-5)
        for sequence in (own, branch):
            sequence.end_prefill()
        assert branch.dropped() == own.dropped() and branch.nbytes() > 0
        tree = Tree(5)
        tree.add(0, 7, 0.5), tree.add(0, 9, 0.5)
        for new, guesses in (([3], None), ([4, 5], None), (list(tree.tokens), tree), ([6], None)):
            logits = step(branch, new, guesses)
            torch.testing.assert_close(logits, step(own, new, guesses), rtol=0, atol=1e-5)
    # Neither branch changed what both hold.
    assert shared.tokens == plain.tokens
    again = shared.branch()
    prefill(again, TEXT[40:], 8), prefill(plain, TEXT[40:], 8)
    torch.testing.assert_close(again.last_logits, plain.last_logits, rtol=0, atol=1e-5)


def test_a_branch_is_taken_back_beyond_what_it_added() -> None:
    model = adapt(tiny_model("llama", initializer_range=0.15))
    sequence = read(model)
    branch = sequence.branch()
    prefill(branch, TEXT[40:50])
    assert roll_back(branch, 25) and len(branch) == 25
    other = Sequence(model)
    prefill(other, TEXT[:25])
    for each in (branch, other):
        prefill(each, TEXT[50:])
    torch.testing.assert_close(branch.last_logits, other.last_logits, rtol=0, atol=1e-5)
    assert sequence.branch().tokens == TEXT[:40] and len(sequence.layers[0].groups[0].near) == 40


def test_branches_hold_the_same_memory() -> None:
    sequence = read(adapt(tiny_model("llama")))
    first, second = sequence.branch(), sequence.branch()
    for (_, a), (_, b) in zip(first.groups(), second.groups(), strict=True):
        (mine,), (theirs,) = a.near.shared, b.near.shared
        assert mine.key.data_ptr() == theirs.key.data_ptr()
        assert a.near.shared_bytes == a.near.nbytes() and not a.near.tail_length


def test_what_changes_is_copied_first() -> None:
    one, block = KVStore(), entries(0, 6)
    one.share([block])
    one.append(entries(6, 3))
    other, before = copy.deepcopy(one), block.clone()
    assert len(one) == 9 and one.index().tolist() == [list(range(9))]
    one.keep(torch.tensor([0, 2, 7]))
    assert not one.shared and one.index().tolist() == [[0, 2, 7]]
    other.own(room=5)
    assert other.room >= 5 and other.read() is not None and not other.shared
    assert torch.equal(other.take(torch.tensor([1, 8])).key[:, 0], before.key[:, 1])
    assert torch.equal(block.key, before.key) and torch.equal(block.value, before.value)


def test_sums_of_an_observer_are_not_shared() -> None:
    store = KVStore()
    held = entries(0, 4)
    store.append(KVEntries(held.key, held.value, held.index, None, torch.zeros(2, 4)))
    assert store.freeze() == () and store.tail_length == 4


def test_a_store_that_is_frozen_often_holds_few_blocks() -> None:
    store, first = KVStore(), entries(0, 500)
    store.share([first])
    whole = [first]
    for start in range(500, 600):
        new = entries(start, 1)
        whole.append(new)
        store.append(new)
        blocks = store.freeze()
        assert len(blocks) == min(MOST_SHARED, start - 498) and not store.tail_length
        # What is long stays where it is, for others hold it too.
        assert blocks[0] is first
    assert store.index().tolist() == [list(range(600))]
    found = store.read()
    assert found is not None
    assert torch.equal(found.key, torch.cat([each.key for each in whole], 1))
    assert torch.equal(found.value, torch.cat([each.value for each in whole], 1))


def test_a_branch_of_a_branch_of_a_branch_holds_few_blocks_and_says_the_same() -> None:
    model = adapt(tiny_model("llama", initializer_range=0.15))
    sequence, plain = read(model), read(model)
    others = []
    for token in TEXT[40:] + TEXT:
        sequence = sequence.branch()
        others.append(sequence)
        prefill(sequence, [token]), prefill(plain, [token])
        assert all(len(g.near.shared) <= MOST_SHARED for _, g in sequence.groups())
    torch.testing.assert_close(sequence.last_logits, plain.last_logits, rtol=0, atol=1e-5)
    # Those that were left behind still say what they said.
    left = others[7]
    again = Sequence(model)
    prefill(again, [*left.tokens, 9]), prefill(left, [9])
    torch.testing.assert_close(left.last_logits, again.last_logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("recipe", ["full", "yarn(factor=2)"])
def test_rows_that_share_read_it_together(model: AdaptedModel, recipe: str) -> None:
    """Rows of two prompts, one of them shared by three, one by two, and a row of its own."""
    plan = whole(resolve(recipe, model))
    first, second = (Sequence(model, plan) for _ in range(2))
    prefill(first, TEXT[:30]), prefill(second, TEXT[10:33])
    rows = [first.branch(), second.branch(), first.branch(), Sequence(model, plan), first.branch()]
    rows.append(second.branch())
    # One more block that only two of three share.
    prefill(rows[0], TEXT[40:45])
    rows[2] = rows[0].branch()
    for number, row in enumerate(rows):
        prefill(row, TEXT[50 : 52 + number])
        row.end_prefill()
    alone = [row.fork() for row in rows]
    for round_number in range(3):
        new = [round_number + n for n in range(len(rows))]
        items = [(row, [token], None) for row, token in zip(rows, new, strict=True)]
        found, steps = extend(items, "all")
        for row, metadata, token, logits, other in zip(rows, steps, new, found, alone, strict=True):
            row.commit(metadata, [token])
            torch.testing.assert_close(logits, step(other, [token]), rtol=0, atol=1e-5)


def test_who_shares_with_whom() -> None:
    model = adapt(tiny_model("llama"))
    first, second = (Sequence(model) for _ in range(2))
    prefill(first, TEXT[:30]), prefill(second, TEXT[10:33])
    longer = first.branch()
    prefill(longer, TEXT[30:34])
    rows = [first.branch(), second.branch(), longer.branch(), longer.branch(), Sequence(model)]
    layers = [row.layers[1] for row in rows]
    assert sharing(layers) == [([0, 2, 3], 1), ([1], 0), ([4], 0)]
    assert sharing(layers[2:4]) == [([0, 1], 2)]
