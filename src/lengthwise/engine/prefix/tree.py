"""A radix tree over token ids, whose nodes hold the entries of their tokens in every layer.

Requests hold entries of nodes by reference. A node leaves when memory is wanted, nothing hangs on
it and no request holds it; the one used longest ago goes first. As SGLang's RadixAttention does it
(Zheng et al. 2024), with entries in one piece a node in place of pages.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries, concatenate

Ids = NDArray[np.int64]


@dataclass(eq=False)
class Node:
    """tokens: those between its parent and it. entries: theirs, one block a layer. users: requests
    that hold some of them. used: when it was looked up last, as a count of look-ups. memory: stands
    for that of the entries, which a node may share with the one above it."""

    tokens: Ids
    entries: list[KVEntries]
    parent: Node | None = None
    children: dict[int, Node] = field(default_factory=dict)
    users: set[object] = field(default_factory=set)
    used: int = 0
    memory: object = field(default_factory=object)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def nbytes(self) -> int:
        """Of its entries; birth ids are one tensor on a device for all layers."""
        tensors = {id(t): t for block in self.entries for t in block.tensors()}
        return sum(t.numel() * t.element_size() for t in tensors.values())


@dataclass(frozen=True)
class Match:
    """nodes: from the root down, whose tokens a text begins with; of the last, `last` tokens."""

    nodes: list[Node]
    last: int

    def __len__(self) -> int:
        if not self.nodes:
            return 0
        return sum(map(len, self.nodes[:-1])) + self.last


def common(a: Ids, b: Ids) -> int:
    """How many tokens two texts have in common at their beginning."""
    size = min(len(a), len(b))
    differ = np.flatnonzero(a[:size] != b[:size])
    return int(differ[0]) if len(differ) else size


class RadixTree:
    """Trees of several readings under one budget.

    capacity: bytes that are held at most. A reading is what entries depend on beside the tokens.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.nbytes = 0
        self.evicted = 0
        self._roots: dict[Hashable, Node] = {}
        self._clock = count(1)
        # (when it was used, a number that tells nodes apart, node); outdated where the node was
        # used since.
        self._queue: list[tuple[int, int, Node]] = []
        self._numbers = count()
        self._nodes = 0

    def __len__(self) -> int:
        return self._nodes

    def nodes(self) -> Iterator[Node]:
        """All nodes, parents first."""
        found = [child for root in self._roots.values() for child in root.children.values()]
        while found:
            node = found.pop()
            yield node
            found += node.children.values()

    def match(self, reading: Hashable, ids: Ids, touch: bool = True) -> Match:
        """The longest beginning of a text that is held.

        Args:
            reading: under which.
            ids: of the text.
            touch: whether this is a use of what was found.
        """
        node, start, nodes, last = self._roots.get(reading), 0, [], 0
        now = next(self._clock)
        while node is not None and start < len(ids):
            child = node.children.get(int(ids[start]))
            if child is None:
                break
            last = common(child.tokens, ids[start:])
            nodes.append(child)
            if touch:
                child.used = now
            start += last
            node = child if last == len(child) else None
        if touch and nodes:
            self._queue_up(nodes[-1])
        return Match(nodes, last)

    def insert(self, reading: Hashable, ids: Ids, match: Match, entries: list[KVEntries]) -> Node:
        """Adds what a text has beyond what is held of it.

        Args:
            reading: under which it was read.
            ids: of the text, longer than the match.
            match: as `match` gave it just now.
            entries: one block a layer, of the tokens behind the match; in memory of their own.

        Returns:
            The new node.
        """
        root = self._roots.setdefault(reading, Node(np.empty(0, np.int64), []))
        parent = root
        if match.nodes:
            parent = match.nodes[-1]
            if match.last < len(parent):
                parent = self._split(parent, match.last)
        node = Node(ids[len(match) :].copy(), entries, parent, used=next(self._clock))
        parent.children[int(node.tokens[0])] = node
        self._nodes += 1
        self.nbytes += node.nbytes
        self._queue_up(node)
        return node

    def _split(self, node: Node, at: int) -> Node:
        """A node of the first `at` tokens above one of the rest. Requests hold on to the lower.

        Both lie in the memory of the one: that takes no more, and nothing is copied until the lower
        leaves.
        """
        parent = node.parent
        assert parent is not None
        before = node.nbytes
        first, rest = _cut(node.entries, 0, at), _cut(node.entries, at, len(node))
        upper = Node(node.tokens[:at], first, parent, used=node.used, memory=node.memory)
        parent.children[int(upper.tokens[0])] = upper
        node.tokens, node.entries, node.parent = node.tokens[at:], rest, upper
        upper.children[int(node.tokens[0])] = node
        self._nodes += 1
        self.nbytes += upper.nbytes + node.nbytes - before
        return upper

    # Leaving.

    def make_room(self, wanted: int, keep: Match | None = None) -> bool:
        """Lets nodes go until there is room.

        Args:
            wanted: bytes.
            keep: what is about to be added to.

        Returns:
            Whether there is; where there cannot be, nothing goes.
        """
        if self.nbytes + wanted <= self.capacity:
            return True
        staying = self._staying(keep)
        if wanted + sum(node.nbytes for node in staying) > self.capacity:
            return False
        put_back = []
        try:
            while self.nbytes + wanted > self.capacity and self._queue:
                used, number, node = heapq.heappop(self._queue)
                if node.parent is None or used != node.used or node.children:
                    continue
                put_back.append((used, number, node))
                if node not in staying:
                    self._remove(node)
                    put_back.pop()
        finally:
            for each in put_back:
                heapq.heappush(self._queue, each)
        return self.nbytes + wanted <= self.capacity

    def _staying(self, keep: Match | None) -> set[Node]:
        """Nodes that cannot go: what requests hold, what is added to, and all above them."""
        found = set() if keep is None else set(keep.nodes)
        for used in (node for node in self.nodes() if node.users):
            node = used
            while node.parent is not None and node not in found:
                found.add(node)
                node = node.parent
        return found

    def _remove(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        above = parent
        while above.memory is node.memory:
            # Memory is free when nothing lies in it.
            above.entries, above.memory = gather([[block] for block in above.entries]), object()
            assert above.parent is not None
            above = above.parent
        del parent.children[int(node.tokens[0])]
        node.parent = None
        self.nbytes -= node.nbytes
        self._nodes -= 1
        self.evicted += 1
        if not parent.children and parent.parent is not None:
            self._queue_up(parent)

    def clear(self) -> None:
        """Forgets everything; requests keep what they hold."""
        self._roots.clear()
        self._queue.clear()
        self.nbytes = self._nodes = 0

    def _queue_up(self, node: Node) -> None:
        heapq.heappush(self._queue, (node.used, next(self._numbers), node))
        if len(self._queue) > 4 * self._nodes + 64:
            leaves = [each for each in self.nodes() if not each.children]
            self._queue = [(each.used, next(self._numbers), each) for each in leaves]
            heapq.heapify(self._queue)


def _cut(entries: list[KVEntries], start: int, stop: int) -> list[KVEntries]:
    """Some of the entries of every layer, as views of the same memory."""
    return _alike([block.slice(start, stop) for block in entries])


def gather(blocks: list[list[KVEntries]]) -> list[KVEntries]:
    """Plain entries joined layer by layer, in memory of their own. Layers of a device share their
    birth ids."""
    return _alike([each[0].clone() if len(each) == 1 else concatenate(each) for each in blocks])


def _alike(entries: list[KVEntries]) -> list[KVEntries]:
    """The same, with one tensor of birth ids for all layers of a device."""
    index: dict[object, Tensor] = {}
    return [
        KVEntries(each.key, each.value, index.setdefault(each.index.device, each.index))
        for each in entries
    ]


__all__ = ["Ids", "Match", "Node", "RadixTree", "common", "gather"]
