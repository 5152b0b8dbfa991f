"""Gives a sequence what of its prompt is held already, and keeps what it has read for the next.

Only where that changes nothing: entries must depend on nothing but the tokens before them and on
what `reading_of` names. Where a recipe's prefill depends on what follows, on chunks, or on what was
summed on the way, nothing is reused, and `reading_of` says None. Recipes that read alike find what
any of them has read. One whose entries leave a window takes part too, where a prompt is read whole:
it is given what others have read, and keeps nothing for them (`keeps`).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Sequence as Seq
from dataclasses import dataclass, replace

import numpy as np
import torch

from lengthwise.engine.kv_cache.entries import KVEntries, concatenate
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.placement import ORDINARY
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.prefix.tree import Ids, Match, RadixTree, gather
from lengthwise.engine.prefix.weights import state_of

# Blocks shorter than this are copied where nothing longer follows: attention over one block more
# costs more than a copy does.
SHORT = 2048


@dataclass(frozen=True)
class PrefixStats:
    """nbytes: held now, of `capacity`. nodes: pieces of text. prompts: looked up, `hits` of them
    not in vain. tokens: of all these prompts, and reused: of those the ones not read again.
    evicted: nodes that left for want of memory."""

    capacity: int = 0
    nbytes: int = 0
    nodes: int = 0
    prompts: int = 0
    hits: int = 0
    tokens: int = 0
    reused: int = 0
    evicted: int = 0


class PrefixCache:
    """KV of what prompts of one model begin with. Threads may share it.

    Attributes:
        capacity: bytes that are held at most, beside what requests hold themselves.
    """

    def __init__(self, capacity: int, mark: Callable[[], str] = str) -> None:
        """mark: of the weights as they are now. Where it has changed, what is held is another
        model's, and goes. It is asked for where `state_of` the model has changed."""
        self.capacity = capacity
        self._mark_now = mark
        self._tree = RadixTree(capacity)
        self._lock = threading.Lock()
        self._mark: str | None = None
        self._state: Hashable = None
        self._counts = PrefixStats()

    @property
    def stats(self) -> PrefixStats:
        """What is held and what it was good for."""
        with self._lock:
            tree = self._tree
            return replace(
                self._counts, capacity=self.capacity, nbytes=tree.nbytes, nodes=len(tree),
                evicted=tree.evicted,
            )  # fmt: skip

    def clear(self) -> None:
        """Forgets everything; requests keep what they hold."""
        with self._lock:
            self._tree.clear()

    def peek(self, sequence: Sequence, tokens: Seq[int]) -> int:
        """How many tokens `attach` would give, without a trace.

        Args:
            sequence: which has read nothing.
            tokens: of its prompt.
        """
        reading = reading_of(sequence, len(tokens))
        if reading is None:
            return 0
        with self._lock:
            match = self._tree.match(reading, _ids(tokens), touch=False)
        return max(0, min(len(match), _most(sequence, tokens)))

    def attach(self, sequence: Sequence, tokens: Seq[int]) -> int:
        """Gives a sequence the longest beginning of its prompt that is held.

        Args:
            sequence: which has read nothing.
            tokens: of its prompt. The last of them is always left to be read.

        Returns:
            Tokens that the sequence holds now.
        """
        reading = reading_of(sequence, len(tokens))
        with self._lock:
            count = 0
            if reading is not None:
                self._follow(sequence)
                match = self._tree.match(reading, _ids(tokens))
                count = max(0, min(len(match), _most(sequence, tokens)))
            before = self._counts
            self._counts = replace(
                before, prompts=before.prompts + 1, hits=before.hits + (count > 0),
                tokens=before.tokens + len(tokens), reused=before.reused + count,
            )  # fmt: skip
            if not count:
                return 0
            self._give(sequence, match, count)
        sequence.begin_with(tokens[:count])
        for layer in sequence.layers:
            layer.slide_window(count, len(tokens), sequence.offset)
        return count

    def insert(self, sequence: Sequence, over: bool = False) -> None:
        """Keeps what a sequence has read, all of which it still holds.

        The sequence holds it by reference from then on. Without room nothing is kept. Weights do
        not change while a request runs, so they are looked at when it begins, by `attach`.

        Args:
            sequence: between two forwards.
            over: it reads and writes no more, and goes on holding what it holds.
        """
        reading = reading_of(sequence, len(sequence))
        # What came through a lossy file is no other prompt's.
        if reading is None or not len(sequence) or sequence.lossy or not keeps(sequence):
            return
        ids = _ids(sequence.tokens)
        with self._lock:
            if self._mark is None:
                self._follow(sequence)
            match = self._tree.match(reading, ids)
            known = len(match)
            if known < len(ids):
                if not self._tree.make_room(_bytes(sequence, len(ids) - known), match):
                    return
                entries = gather(
                    [_behind(group.near.blocks(), known) for _, group in sequence.groups()]
                )
                self._tree.insert(reading, ids, match, entries)
                match = self._tree.match(reading, ids)
            if over:
                return
            for _, group in sequence.groups():
                group.near.replace(None)
            self._give(sequence, match, len(ids))

    def _give(self, sequence: Sequence, match: Match, count: int) -> None:
        """Lets a sequence that holds nothing hold the first `count` tokens of what was found."""
        nodes, left = match.nodes, count
        sizes: list[int] = []
        for node in nodes:
            sizes.append(min(left, len(node)))
            left -= sizes[-1]
        long = [place for place, size in enumerate(sizes) if size >= SHORT]
        held = long[-1] + 1 if long else 0
        room = max(sequence.expected, count) - sum(sizes[:held])
        for number, (layer, group) in enumerate(sequence.groups()):
            blocks = [
                _first(node.entries[number], size) for node, size in zip(nodes, sizes, strict=True)
            ]
            if group.placement.window is not None:
                # They are about to leave it.
                if layer.codec is None:
                    group.begin_far(blocks[0], sequence.expected)
                group.near.append(concatenate(blocks))
                continue
            group.near.share(blocks[:held])
            group.near.reserve(blocks[0], room)
            for block in blocks[held:]:
                group.near.append(block)
        if held:
            node, key = nodes[held - 1], object()
            node.users.add(key)
            weakref.finalize(sequence, node.users.discard, key)

    def _follow(self, sequence: Sequence) -> None:
        state = state_of(sequence.model.model)
        if state == self._state:
            return
        mark = self._mark_now()
        if mark != self._mark:
            self._tree.clear()
        self._mark, self._state = mark, state


def reading_of(sequence: Sequence, length: int) -> Hashable | None:
    """What entries depend on beside the tokens before them; None where nothing can be reused.

    Args:
        sequence: under the plan in question.
        length: tokens of its prompt.
    """
    rope, rule = sequence.model.rope, sequence.plan.rule
    watched = sequence.observes_prompt or sequence.noted is not None
    watched |= sequence.stale or sequence.given
    moved = sequence.offset or sequence.apart or (rope is not None and rope.switch is not None)
    if watched or moved or sequence.plan.bias is not None:
        return None
    if not all(_reusable(layer, len(sequence)) for layer in sequence.layers):
        return None
    reading = ("rule", None if rule is None else rule.key, sequence.plan.query_scale)
    try:
        hash(reading)
    except TypeError:
        return None
    return reading


def keeps(sequence: Sequence) -> bool:
    """Whether what a sequence reads stays together, so that `insert` may keep it.

    Args:
        sequence: whose `reading_of` is not None.
    """
    return all(group.placement.window is None for _, group in sequence.groups())


def _reusable(layer: LayerCache, length: int) -> bool:
    """Whether a layer reads prompts as full attention does, and keeps every token as read."""
    if len(layer.groups) > 1 or (layer.rule is not None and layer.rule.dynamic):
        return False
    group = layer.groups[0]
    held = not group.near.closed and not group.far.closed and group.kept() == length
    return held and not group.on_evict and _reads_whole(group)


def _reads_whole(group: HeadGroup) -> bool:
    """Whether the queries of a prompt reach every token before them where it was born."""
    placement, selector = group.placement, group.selector
    if selector is not None and (
        group.reader is not None or selector.query_block is not None
        or selector.wants_attention_mass
    ):  # fmt: skip
        return False
    anchored = replace(placement, window=None, anchored=False, offload=None) == ORDINARY
    return anchored if placement.anchored else placement == ORDINARY


def _most(sequence: Sequence, tokens: Seq[int]) -> int:
    """Most tokens of a prompt that need not be read: the last is, and so are those whose queries a
    retention or a codec asks for."""
    return len(tokens) - max(1, sequence.remembered)


def _ids(tokens: Seq[int]) -> Ids:
    return np.fromiter(tokens, np.int64, len(tokens))


def _bytes(sequence: Sequence, tokens: int) -> int:
    """Bytes of the entries of so many tokens."""
    size = torch.empty(0, dtype=sequence.model.dtype).element_size()
    each = sum(
        facts.num_kv_heads * (facts.head_dim + facts.value_dim) for facts in sequence.model.layers
    )
    return tokens * (each * size + 4 * len(sequence.model.devices))


def _behind(blocks: list[KVEntries], count: int) -> list[KVEntries]:
    """What follows the first `count` entries of some blocks."""
    found = []
    for block in blocks:
        if len(block) > count:
            found.append(block.slice(count, len(block)))
        count = max(0, count - len(block))
    return found


def _first(block: KVEntries, count: int) -> KVEntries:
    return block if count == len(block) else block.slice(0, count)


__all__ = ["PrefixCache", "PrefixStats", "keeps", "reading_of"]
