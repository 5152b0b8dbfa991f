"""What a batch job reads once, and in which order it runs.

BatchLLM (arXiv 2412.03594): all prompts of an offline job are known, so shared prefixes are found
before anything runs. Each prompt gets one prefix, all prompts of one prefix are a group, and the
sum over groups of (members - 1) * prefix length, the tokens not read again, is the largest there
is. Groups that write much and read little come first, so that later prompts are read beside them.

The paper chooses prefixes by comparing each child of a node with its parent. Here the choice is
exact. A prefix of d tokens costs d once and saves d a member, so with a the depth of the nearest
prefix above node v,

    gain(v, a) = max( sum over children of gain(c, a) + ending(v) * a,
                      sum over children of gain(c, d(v)) + ending(v) * d(v) - d(v) )

where ending(v) are the prompts that end at v, and a takes the depths of the nodes above it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence as Seq
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LEAST = 16
"""Tokens of the shortest prefix that is shared: a block of vLLM's."""


@dataclass(frozen=True)
class Group:
    """Prompts that share a prefix: its length in tokens, and which prompts they are."""

    prefix: int
    members: tuple[int, ...]

    @property
    def saved(self) -> int:
        """Tokens that are not read again."""
        return (len(self.members) - 1) * self.prefix


@dataclass
class Node:
    """A node of the compressed trie: what is below it has its first `depth` tokens in common.

    above: the node over it, -1 for the root. ending: prompts that end here.
    """

    depth: int
    above: int
    ending: list[int] = field(default_factory=list)


def common(one: Seq[int], other: Seq[int]) -> int:
    """How many tokens two prompts have in common at their beginning.

    Args:
        one: token ids.
        other: token ids.
    """
    most = min(len(one), len(other))
    a, b = np.asarray(one[:most]), np.asarray(other[:most])
    differ = np.flatnonzero(a != b)
    return int(differ[0]) if len(differ) else most


def trie(prompts: Seq[Seq[int]]) -> list[Node]:
    """The compressed trie of prompts: nodes where they part or end, each behind the one above it.

    Args:
        prompts: token ids, at least one each.

    Returns:
        The nodes, the root first.
    """
    nodes = [Node(0, -1)]
    path = [0]
    before: Seq[int] = ()
    for number in sorted(range(len(prompts)), key=lambda n: list(prompts[n])):
        tokens = prompts[number]
        shared = common(before, tokens)
        below = -1
        while nodes[path[-1]].depth > shared:
            below = path.pop()
        if nodes[path[-1]].depth < shared:
            # The last one that was left hangs from where the two part.
            nodes.append(Node(shared, path[-1]))
            nodes[below].above = len(nodes) - 1
            path.append(len(nodes) - 1)
        if nodes[path[-1]].depth < len(tokens):
            nodes.append(Node(len(tokens), path[-1]))
            path.append(len(nodes) - 1)
        nodes[path[-1]].ending.append(number)
        before = tokens
    return _ordered(nodes)


def _ordered(nodes: list[Node]) -> list[Node]:
    """The nodes by depth, so that each stands behind the one above it."""
    order = sorted(range(len(nodes)), key=lambda n: nodes[n].depth)
    place = {old: new for new, old in enumerate(order)} | {-1: -1}
    return [Node(nodes[n].depth, place[nodes[n].above], nodes[n].ending) for n in order]


def groups_of(prompts: Seq[Seq[int]], least: int = LEAST) -> list[Group]:
    """Groups of prompts, one prefix each, that leave the fewest tokens to be read.

    Args:
        prompts: token ids, at least one each.
        least: tokens of the shortest prefix that is shared.

    Returns:
        The groups. A prompt that shares nothing is in a group of its own, whose prefix is 0.
    """
    nodes = trie(prompts)
    opened = _opened(nodes, least)
    members: dict[int, list[int]] = defaultdict(list)
    alone: list[Group] = []
    nearest = [0] * len(nodes)
    for number, node in enumerate(nodes):
        nearest[number] = number if number in opened else nearest[max(0, node.above)]
        if nearest[number]:
            members[nearest[number]] += node.ending
        else:
            alone += [Group(0, (each,)) for each in node.ending]
    shared = [Group(nodes[n].depth, tuple(sorted(found))) for n, found in members.items()]
    return sorted(shared + alone, key=lambda group: group.members)


def _opened(nodes: Seq[Node], least: int) -> set[int]:
    """The nodes that are prefixes of groups, by the dynamic programme of this module's text.

    `gain` of a node holds a number for every node above it, the root's first.
    """
    below: list[NDArray[np.int64] | None] = [None] * len(nodes)
    opens: list[NDArray[np.bool_]] = [np.zeros(0, bool)] * len(nodes)
    for number in range(len(nodes) - 1, 0, -1):
        node = nodes[number]
        found = len(node.ending) * _path(nodes, number)
        if (children := below[number]) is not None:
            found = found + children
        own = found[-1] - node.depth
        opens[number] = (own > found[:-1]) & (node.depth >= least)
        gain = np.where(opens[number], own, found[:-1])
        before = below[node.above]
        below[node.above] = gain if before is None else before + gain
        below[number] = None
    chosen: set[int] = set()
    place = [0] * len(nodes)
    for number in range(1, len(nodes)):
        above = nodes[number].above
        level = len(opens[above]) if above in chosen else place[above]
        if opens[number][level]:
            chosen.add(number)
        place[number] = level
    return chosen


def _path(nodes: Seq[Node], number: int) -> NDArray[np.int64]:
    """Depths from the root to a node."""
    depths = []
    while number >= 0:
        depths.append(nodes[number].depth)
        number = nodes[number].above
    return np.array(depths[::-1], dtype=np.int64)


class OutputLengths:
    """How many tokens are expected of a request: those its like have given so far in this job.

    Requests that allow equally many tokens are taken for one task. Of a task that has not given
    anything yet, all that is allowed is expected.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, int]] = {}

    def add(self, allowed: int, given: int) -> None:
        """Notes one that is done.

        Args:
            allowed: its max_tokens.
            given: tokens that it gave.
        """
        count, total = self._seen.get(allowed, (0, 0))
        self._seen[allowed] = count + 1, total + given

    def expected(self, allowed: int) -> float:
        """Tokens that a request is expected to give.

        Args:
            allowed: its max_tokens.
        """
        count, total = self._seen.get(allowed, (0, 0))
        return total / count if count else float(allowed)


def ratio(group: Group, lengths: Seq[int], expected: Mapping[int, float] | Seq[float]) -> float:
    """Tokens that a group is expected to write, for each one that it reads.

    Args:
        group: of prompts.
        lengths: tokens of every prompt.
        expected: tokens that every prompt is expected to give.
    """
    read = group.prefix + sum(lengths[member] - group.prefix for member in group.members)
    return sum(expected[member] for member in group.members) / max(1, read)


def decode_heavy_first(
    groups: Iterable[Group], lengths: Seq[int], expected: Callable[[int], float]
) -> list[Group]:
    """Groups in the order they run in, and their members in theirs: by tokens written for each one
    read, the most first.

    Args:
        groups: as `groups_of` gave them.
        lengths: tokens of every prompt.
        expected: tokens that a prompt is expected to give, by its number.
    """
    found: list[tuple[float, Group]] = []
    for group in groups:
        told = {member: expected(member) for member in group.members}

        def of_member(
            member: int, told: dict[int, float] = told, prefix: int = group.prefix
        ) -> tuple[float, int]:
            return -told[member] / max(1, lengths[member] - prefix), member

        members = tuple(sorted(group.members, key=of_member))
        found.append((ratio(group, lengths, told), Group(group.prefix, members)))
    found.sort(key=lambda pair: (-pair[0], pair[1].members))
    return [group for _, group in found]


__all__ = [
    "LEAST", "Group", "Node", "OutputLengths", "common", "decode_heavy_first", "groups_of",
    "ratio", "trie",
]  # fmt: skip
