"""The radix tree against a list of texts: what is held is found, what leaves is the oldest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.prefix import tree as module
from lengthwise.engine.prefix.tree import Ids, RadixTree, common

TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=14)


def ids(*tokens: int) -> Ids:
    return np.array(tokens, np.int64)


def entries(text: Ids, start: int) -> list[KVEntries]:
    """Entries that say which token they are of, in two layers."""
    index = torch.arange(start, len(text), dtype=torch.int32)[None]
    key = torch.from_numpy(text[start:]).float()[None, :, None]
    return [KVEntries(key.clone(), key + layer, index.clone()) for layer in range(2)]


def add(tree: RadixTree, text: Ids, reading: str = "r") -> bool:
    match = tree.match(reading, text)
    if len(match) == len(text):
        return True
    new = entries(text, len(match))
    size = sum(t.numel() * t.element_size() for block in new for t in block.tensors())
    if not tree.make_room(size, match):
        return False
    tree.insert(reading, text, match, new)
    return True


def held(tree: RadixTree, text: Ids, reading: str = "r") -> list[int]:
    match = tree.match(reading, text, touch=False)
    found = [int(x) for node in match.nodes for x in node.entries[1].key[0, :, 0]]
    births = [int(i) for node in match.nodes for i in node.entries[1].index[0]]
    assert births == list(range(len(found)))
    return found[: len(match)]


def allocated(tree: RadixTree) -> int:
    """Bytes of the memory that entries lie in, all of it."""
    blocks = [block for node in tree.nodes() for block in node.entries]
    held = [tensor.untyped_storage() for block in blocks for tensor in block.tensors()]
    return sum({memory.data_ptr(): memory.nbytes() for memory in held}.values())


def recount(tree: RadixTree) -> int:
    return sum(node.nbytes for node in tree.nodes())


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_the_longest_common_beginning_is_found(texts: list[list[int]]) -> None:
    tree, seen = RadixTree(1 << 30), []
    for tokens in texts:
        text = ids(*tokens)
        wanted = max((common(text, other) for other in seen), default=0)
        assert held(tree, text) == tokens[:wanted]
        add(tree, text)
        seen.append(text)
    for text in seen:
        assert held(tree, text) == text.tolist()
    assert tree.nbytes == recount(tree) == allocated(tree) and len(tree) == len(list(tree.nodes()))


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.integers(30, 400))
def test_bytes_stay_within_the_budget(texts: list[list[int]], capacity: int) -> None:
    tree = RadixTree(capacity)
    for tokens in texts:
        added = add(tree, ids(*tokens))
        assert tree.nbytes == recount(tree) == allocated(tree) <= capacity
        found = held(tree, ids(*tokens))
        assert found == tokens[: len(found)] and (not added or len(found) == len(tokens))


def test_the_oldest_leaf_leaves_first_and_what_is_in_use_stays() -> None:
    tree = RadixTree(1 << 30)
    for tail in (1, 2, 3, 4):
        add(tree, ids(9, 9, tail, tail, tail))
    tree.match("r", ids(9, 9, 1, 1, 1))
    in_use = tree.match("r", ids(9, 9, 2, 2, 2), touch=False).nodes[-1]
    in_use.users.add("a request")
    tree.capacity = tree.nbytes
    assert tree.make_room(1)
    assert tree.evicted == 1 and len(held(tree, ids(9, 9, 3, 3, 3))) == 2
    assert tree.make_room(in_use.nbytes + 1)
    assert [len(held(tree, ids(9, 9, t, t, t))) for t in (1, 2, 3, 4)] == [5, 5, 2, 2]
    assert not tree.make_room(tree.capacity)
    assert len(held(tree, ids(9, 9, 2, 2, 2))) == 5
    in_use.users.clear()
    assert tree.make_room(tree.capacity) and not tree.nbytes and not len(tree)


def test_readings_do_not_mix() -> None:
    tree = RadixTree(1 << 30)
    add(tree, ids(1, 2, 3), "plain")
    assert held(tree, ids(1, 2, 3), "yarn") == []
    tree.clear()
    assert held(tree, ids(1, 2, 3), "plain") == [] and tree.nbytes == 0


def test_many_uses_do_not_grow_the_queue() -> None:
    tree = RadixTree(1 << 30)
    for tail in range(20):
        add(tree, ids(5, tail))
    for _ in range(2000):
        tree.match("r", ids(5, 3))
    assert len(tree._queue) <= 4 * len(tree) + 65


def test_what_has_no_place_lets_nothing_go() -> None:
    """Beside what cannot go: what requests hold, what is above it, and what is added to."""
    tree = RadixTree(1 << 30)
    for tail in (1, 2, 3):
        add(tree, ids(9, 9, tail, tail))
    tree.capacity = tree.nbytes
    assert not tree.make_room(tree.capacity + 1) and not tree.evicted
    used = tree.match("r", ids(9, 9, 1, 1), touch=False)
    used.nodes[-1].users.add("a request")
    added_to = tree.match("r", ids(9, 9, 2, 2), touch=False)
    free = tree.capacity - sum(node.nbytes for node in {*used.nodes, *added_to.nodes})
    assert not tree.make_room(free + 1, added_to) and not tree.evicted
    assert tree.make_room(free, added_to) and tree.evicted == 1
    assert [len(held(tree, ids(9, 9, t, t))) for t in (1, 2, 3)] == [4, 4, 2]


def test_cutting_a_node_takes_no_memory_and_the_part_that_stays_its_own() -> None:
    tree = RadixTree(1 << 30)
    add(tree, ids(*range(12)))
    (whole,) = tree.nodes()
    place = whole.entries[0].key.data_ptr()
    for at in (8, 4):
        add(tree, ids(*range(at), 99))
    assert place in {node.entries[0].key.data_ptr() for node in tree.nodes()}
    assert tree.nbytes == recount(tree) == allocated(tree)
    # The end of the first text goes; of its beginning nothing else is kept alive.
    tree.match("r", ids(*range(8), 99)), tree.match("r", ids(*range(4), 99))
    tree.capacity = tree.nbytes
    assert tree.make_room(1) and tree.evicted == 1
    assert tree.nbytes == recount(tree) == allocated(tree)
    assert held(tree, ids(*range(12))) == list(range(8))


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_cut_for_which_memory_runs_out_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    tree, cut, calls = RadixTree(1 << 30), module._cut, []

    def failing(*given: object) -> list[KVEntries]:
        calls.append(given)
        if len(calls) == fails_at:
            raise MemoryError
        return cut(*given)  # type: ignore[arg-type]

    add(tree, ids(1, 2, 3, 4))
    size = tree.nbytes
    with monkeypatch.context() as patch:
        patch.setattr(module, "_cut", failing)
        with pytest.raises(MemoryError):
            add(tree, ids(1, 2, 5))
    assert held(tree, ids(1, 2, 3, 4)) == [1, 2, 3, 4]
    assert tree.nbytes == recount(tree) == size and len(tree) == 1
    assert add(tree, ids(1, 2, 5)) and held(tree, ids(1, 2, 5)) == [1, 2, 5]
    tree.capacity = tree.nbytes
    assert tree.make_room(tree.capacity) and not tree.nbytes


def test_a_node_that_cannot_leave_for_want_of_memory_leaves_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = RadixTree(1 << 30)
    add(tree, ids(1, 2, 3, 4)), add(tree, ids(1, 2, 5, 6))
    tree.capacity = tree.nbytes

    def fail(blocks: object) -> list[KVEntries]:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(module, "gather", fail)
        with pytest.raises(MemoryError):
            tree.make_room(1)
    assert held(tree, ids(1, 2, 3, 4)) == [1, 2, 3, 4]
    assert tree.make_room(tree.capacity) and not tree.nbytes and not len(tree)
