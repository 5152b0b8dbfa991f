"""What rows of a batch keep, as memory whose addresses a captured step may hold on to.

Rows that step together have their entries moved side by side into one piece of memory a layer, so
that one call attends for all of them. Layers in which every row keeps as much share their lengths,
which the host counts as it always does and hands over at each step.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.placement import IndexMap, Placement, same
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.engine.static.memory import Memory, side_by_side
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.models.rope import Angles

# Room for so many entries is made at once where a step finds none, but for no more than will come.
GROWTH = 256
SHARE = 32
# What a step is told of layers that are alike, a line each.
START, PLACE, FIRST, USED, FAR_START, FAR_USED, LINES = 0, 1, 2, 3, 4, 5, 6


@dataclass(eq=False)
class Alike:
    """Layers whose entries lie and grow alike in every row.

    line: the first of their LINES lines. groups: what one of these layers keeps, by
    row. starts, far_starts: where each row lies in its memory. leaving: by row, where its near
    entries start and which is the first of these that stays visible beyond the window.
    """

    line: int
    windowed: bool
    placement: Placement
    groups: list[HeadGroup]
    starts: list[int]
    far_starts: list[int]
    leaving: list[tuple[int, int]]

    def lines(self, births: Seq[int], single: bool) -> list[list[int]] | None:
        """Their lines at a step that begins with these birth ids; None where it is no such step.
        single: one token a row, which is among the entries it sees."""
        places = [group.near.tail_length for group in self.groups]
        firsts = [0] * len(places)
        if self.windowed:
            if not single:
                return None
            for row, (group, birth) in enumerate(zip(self.groups, births, strict=True)):
                assert self.placement.window is not None
                gone = max(0, birth - self.placement.window + 1 - group.near_start)
                if gone and self.placement.keeps_far and gone > self._first_kept(row):
                    return None
                firsts[row] = gone
        used = [place + single - first for place, first in zip(places, firsts, strict=True)]
        far = [group.far.tail_length for group in self.groups]
        return [self.starts, places, firsts, used, self.far_starts, far]

    def _first_kept(self, row: int) -> int:
        """How many of the oldest near entries of a row may leave the window before one is kept."""
        group, (start, first) = self.groups[row], self.leaving[row]
        if start != group.near_start:
            keep, tail = self.placement.keep_far, group.near.tail
            assert keep is not None and tail is not None
            kept = keep(tail.index[0, : group.slack].long()).nonzero()
            first = int(kept[0]) if len(kept) else len(tail)
            self.leaving[row] = group.near_start, first
        return first


@dataclass(eq=False)
class LayerRoom:
    """One layer of all rows."""

    facts: LayerFacts
    alike: Alike
    near: Memory
    far: Memory | None
    angles: Angles | None

    @property
    def far_query(self) -> IndexMap:
        return self.alike.placement.far_query

    def address(self) -> tuple[object, ...]:
        """What a captured step holds on to of it."""
        memories = [self.near] if self.far is None else [self.near, self.far]
        tensors = [t for memory in memories for t in memory.tensors()]
        places = tuple(
            (t.data_ptr(), t.shape, t.stride(), t.dtype) for t in (*tensors, *(self.angles or ()))
        )
        capacities = tuple(memory.capacity for memory in memories)
        return places, capacities, self.alike.line, self.far_query


@dataclass(eq=False)
class _Kept:
    """A layer of a row: what it kept when the rooms were opened, and its place among `Alike`."""

    layer: LayerCache
    group: HeadGroup
    near: KVEntries | None
    far: KVEntries | None
    number: int


class Rooms:
    """Memory of some rows. layers: all of the model's. limit: from which position on there are no
    angles yet. alikes: see there."""

    def __init__(self, sequences: Seq[Sequence]) -> None:
        self._sequences = [weakref.ref(sequence) for sequence in sequences]
        self._held = [sequence.layers for sequence in sequences]
        self.alikes: list[Alike] = []
        self.limit = 0
        self._births = [len(sequence) for sequence in sequences]
        self.layers = [self._open(index) for index in range(len(self._held[0]))]
        self._rows = [
            [
                _Kept(layer, layer.groups[0], layer.groups[0].near.allocated,
                      layer.groups[0].far.allocated, self.alikes.index(room.alike))
                for layer, room in zip(layers, self.layers, strict=True)
            ]
            for layers in self._held
        ]  # fmt: skip
        self._offsets = [sequence.offset for sequence in sequences]

    def __len__(self) -> int:
        return len(self._sequences)

    def share(self, sequences: Seq[Sequence]) -> bool:
        """Whether some of these rows are among its own.

        Args:
            sequences: rows of the same model.
        """
        mine = [reference() for reference in self._sequences]
        return any(sequence is each for sequence in sequences for each in mine)

    def address(self) -> tuple[object, ...]:
        """What a captured step holds on to: it serves all rows that lie there."""
        return (len(self), *(layer.address() for layer in self.layers))

    def lines(
        self, sequences: Seq[Sequence], nodes: Seq[int], ahead: int
    ) -> list[list[int]] | None:
        """What layers are told at a step, each line with a 0 behind the rows; None where something
        else than such steps has changed what is kept, or where another kind of step is due.

        Args:
            sequences: the rows.
            nodes: new tokens of each.
            ahead: tokens on the longest path of them.
        """
        if len(sequences) != len(self):
            return None
        births = [len(sequence) for sequence in sequences]
        last = max(a + b for a, b in zip(births, self._offsets, strict=True)) + ahead
        if last > self.limit or not self._current(sequences, nodes):
            return None
        found: list[list[int]] = []
        for alike in self.alikes:
            lines = alike.lines(births, max(nodes) == 1)
            if lines is None:
                return None
            found += [[*line, 0] for line in lines]
        return found

    def _current(self, sequences: Seq[Sequence], nodes: Seq[int]) -> bool:
        """Whether these are the rows, each lying where it lay, with room for so many entries."""
        counts = [
            [(g.near.tail_length, g.far.tail_length, g.near_start) for g in alike.groups]
            for alike in self.alikes
        ]
        rows = zip(self._sequences, self._held, self._rows, sequences, strict=True)
        for row, (reference, layers, kept, sequence) in enumerate(rows):
            if reference() is not sequence or sequence.layers is not layers:
                return False
            for each in kept:
                # Called for every layer of every row at each step, hence spelled out.
                group = each.group
                near, far = group.near, group.far
                if (
                    each.layer.groups[0] is not group
                    or near.allocated is not each.near
                    or far.allocated is not each.far
                    or (near.tail_length, far.tail_length, group.near_start)
                    != counts[each.number][row]
                    or near.room < nodes[row]
                ):
                    return False
        return True

    def advance(self, nodes: Seq[int]) -> None:
        """The step wrote new entries, which `Sequence.commit` keeps or `discard` drops.

        Args:
            nodes: how many of each row.
        """
        for kept, count in zip(self._rows, nodes, strict=True):
            for each in kept:
                each.group.near.advance(count)
                each.layer.placed = count

    # Opening.

    def _open(self, index: int) -> LayerRoom:
        layers = [layers[index] for layers in self._held]
        groups = [layer.groups[0] for layer in layers]
        facts = layers[0].facts
        near = side_by_side([group.near for group in groups])
        far: Memory | None = None
        if any(len(group.far) for group in groups):
            far = side_by_side([group.far for group in groups])
        far_starts = [0] * len(groups) if far is None else far.starts
        alike = self._alike(groups, near.starts, far_starts)
        return LayerRoom(facts, alike, near, far, self._angles(layers[0]))

    def _angles(self, layer: LayerCache) -> Angles | None:
        """The table of a layer's angles, with those of far queries in it."""
        facts, rope = layer.facts, layer.model.rope
        assert rope is not None
        offsets = [sequence.offset for each in self._sequences if (sequence := each()) is not None]
        if facts.layout is None:
            return None
        needed = max(self._births) + max(offsets) + 1
        table = rope.table(facts.layout, facts.rotary_type, needed, layer.rule)
        far = layer.groups[0].placement.far_query
        limit = len(table[0])
        if far is not same:
            reached = int(far(torch.arange(limit, device=rope.device)).max()) + 1
            table = rope.table(facts.layout, facts.rotary_type, reached, layer.rule)
        self.limit = min(self.limit or limit, limit)
        return table

    def _alike(self, groups: list[HeadGroup], starts: list[int], far_starts: list[int]) -> Alike:
        """What this layer shares its lengths with."""
        placement = groups[0].placement
        for each in self.alikes:
            if (
                each.placement == placement
                and each.starts == starts
                and each.far_starts == far_starts
                and all(map(_as_long, each.groups, groups))
            ):
                return each
        line = LINES * len(self.alikes)
        windowed = placement.window is not None
        unknown = [(-1, 0)] * len(groups)
        new = Alike(line, windowed, placement, groups, starts, far_starts, unknown)
        self.alikes.append(new)
        return new


def _as_long(a: HeadGroup, b: HeadGroup) -> bool:
    return (len(a.near), len(a.far), a.near_start) == (len(b.near), len(b.far), b.near_start)


def open_rooms(sequences: Seq[Sequence], nodes: Seq[int]) -> Rooms | None:
    """Rooms of rows that can step in a static way now; None where one of them cannot.

    Args:
        sequences: the rows.
        nodes: new tokens of each.
    """
    rope = sequences[0].model.rope
    if rope is None or rope.switch is not None:
        return None
    if any(sequence.prompt_length is None or sequence.wants_token_nll for sequence in sequences):
        return None
    for layers in zip(*(sequence.layers for sequence in sequences), strict=True):
        groups = [layer.groups[0] for layer in layers]
        starts = [len(sequence) for sequence in sequences]
        if not all(map(_steps, layers, groups, starts, nodes)) or not _agree(layers, groups):
            return None
    for sequence, count in zip(sequences, nodes, strict=True):
        left = sequence.expected - len(sequence)
        if not all(_make_room(group, left, count) for _, group in sequence.groups()):
            return None
    return Rooms(sequences)


def _steps(layer: LayerCache, group: HeadGroup, start: int, count: int) -> bool:
    """Whether new tokens of a row see entries that only grow until they are moved."""
    placement, window = group.placement, group.placement.window
    if layer.codec is not None or group.selector is not None or group.on_evict is not None:
        return False
    if layer.query_scale is not None:
        return False
    if group.near.shared:
        return False
    stores = [store for store in (group.near, group.far) if store.allocated is not None]
    if any(store.allocated.attention_mass is not None for store in stores if store.allocated):
        return False
    if window is None:
        return layer.steps_plainly(1)
    if count > 1 or (placement.keeps_far and placement.keep_far is None):
        return False
    index = torch.empty(0, dtype=torch.long)
    return layer.steps_in_window(StepMetadata(start, index))


def _agree(layers: Seq[LayerCache], groups: Seq[HeadGroup]) -> bool:
    """Whether one call can attend for this layer of all rows."""
    first, group = layers[0], groups[0]
    return all(
        layer.rule is first.rule and each.placement == group.placement
        for layer, each in zip(layers, groups, strict=True)
    )


def _make_room(group: HeadGroup, left: int, count: int) -> bool:
    """Whether there is, or was made, room for new entries.

    left: tokens still to come, 0 or less where that is not known. Guesses that reach beyond them
    are not worth moving what is kept.
    """
    near, window = group.near, group.placement.window
    if near.room >= count:
        return True
    more = max(GROWTH, near.tail_length // SHARE)
    if left > 0:
        more = min(more, left)
    if window is not None:
        more = max(1, min(more, window + group.slack - near.tail_length))
    if more < count:
        return False
    assert near.allocated is not None
    near.reserve(near.allocated, more)
    return True


__all__ = ["Alike", "LayerRoom", "Rooms", "open_rooms"]
