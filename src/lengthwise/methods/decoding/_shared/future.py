"""Expected future grammaticality: how likely a text of the language follows a path, from above.

A tree over the paths of the samples so far. Of each path it holds the probability that the next
token is allowed (`mass`), and of each token that was chosen there its probability (`raw`) and what
is known behind it. From these

    rate(path) = sum over allowed tokens of raw(token) rate(path + token),   unseen paths: 1
               = mass - sum over chosen tokens of raw(token) (1 - rate(path + token))

Rates only fall, towards the probability that what the model writes behind the path is in the
language. Nodes do not change: a sample makes new ones along its path, and whoever holds the old
root goes on with the old rates.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence as Seq
from dataclasses import dataclass, field
from types import MappingProxyType

_NOBODY: Mapping[int, tuple[float, Node]] = MappingProxyType({})


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """What is known behind one path. children: by token its `raw`, and the path one longer."""

    mass: float
    children: Mapping[int, tuple[float, Node]] = field(default_factory=lambda: _NOBODY)
    rate: float = field(init=False)

    def __post_init__(self) -> None:
        lost = sum(raw * (1 - node.rate) for raw, node in self.children.values())
        object.__setattr__(self, "rate", min(1.0, max(0.0, self.mass - lost)))


@dataclass(frozen=True, slots=True)
class Visit:
    """A path that a sample came through.

    mass: probability that the next token is allowed. token: the one chosen, None where the text
    ended here. raw: its probability under the model.
    """

    mass: float
    token: int | None = None
    raw: float = 0.0


def learned(root: Node | None, sample: Seq[Visit]) -> Node | None:
    """The tree with one more sample.

    Args:
        root: of the tree before; None where nothing is known.
        sample: the paths it came through, the empty one first.

    Returns:
        The new root; the old tree is as it was.
    """
    on_the_way: list[Node | None] = []
    node = root
    for visit in sample:
        on_the_way.append(node)
        known = node.children.get(visit.token) if node and visit.token is not None else None
        node = known[1] if known else None
    below = node
    for visit, old in zip(reversed(sample), reversed(on_the_way), strict=True):
        children = dict(old.children) if old else {}
        if visit.token is not None and below is not None:
            children[visit.token] = (visit.raw, below)
        below = Node(visit.mass, children)
    return below


class Futures:
    """The trees of several languages and prompts, the least recently asked for given up first.

    most: trees that are held.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._trees: OrderedDict[Hashable, tuple[Node | None, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> tuple[Node | None, int]:
        """The root of a tree, and how many samples it is made of."""
        with self._lock:
            found = self._trees.get(key, (None, 0))
            if key in self._trees:
                self._trees.move_to_end(key)
            return found

    def learn(self, key: Hashable, sample: Seq[Visit]) -> None:
        """Adds a sample to a tree.

        Args:
            key: of the tree.
            sample: as for `learned`.
        """
        with self._lock:
            root, count = self._trees.pop(key, (None, 0))
            self._trees[key] = learned(root, sample), count + 1
            while len(self._trees) > self._most:
                self._trees.popitem(last=False)


__all__ = ["Futures", "Node", "Visit", "learned"]
