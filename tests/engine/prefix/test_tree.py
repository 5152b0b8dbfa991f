"""The radix tree against a list of texts: what is held is found, what leaves is the oldest."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from lengthwise.engine.kv_cache.entries import KVEntries
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
    assert tree.nbytes == recount(tree) and len(tree) == len(list(tree.nodes()))


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.integers(30, 400))
def test_bytes_stay_within_the_budget(texts: list[list[int]], capacity: int) -> None:
    tree = RadixTree(capacity)
    for tokens in texts:
        added = add(tree, ids(*tokens))
        assert tree.nbytes == recount(tree) <= capacity
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
