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
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.head_group import HeadGroup
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.layer_cache import LayerCache
from lengthwise.engine.kv_cache.placement import IndexMap, Placement, same
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.models.rope import Angles

# Room for so many entries is made at once where a step finds none, but for no more than will come.
GROWTH = 256
SHARE = 32
# Lines of a step's inputs: token ids, birth ids, positions; then those of `Alike`.
IDS, BIRTHS, POSITIONS, FIRST_LINE = 0, 1, 2, 3
SLOT, PLACE, FIRST, USED, FAR_SLOT, FAR_USED, LINES = 0, 1, 2, 3, 4, 5, 6


@dataclass(eq=False)
class Alike:
    """Layers whose entries lie and grow alike in every row.

    line: the first of their LINES lines in the inputs. groups: what one of these layers keeps, by
    row. slots, far_slots: where in the memory each row lies. leaving: by row, where its near
    entries start and which is the first of these that stays visible beyond the window.
    """

    line: int
    windowed: bool
    placement: Placement
    groups: list[HeadGroup]
    slots: list[int]
    far_slots: list[int]
    leaving: list[tuple[int, int]]

    def lines(self, births: Seq[int]) -> list[list[int]] | None:
        """Their inputs at a step of tokens with these birth ids; None where it is no such step."""
        places = [group.near.tail_length for group in self.groups]
        firsts = [0] * len(places)
        if self.windowed:
            for row, (group, birth) in enumerate(zip(self.groups, births, strict=True)):
                assert self.placement.window is not None
                gone = max(0, birth - self.placement.window + 1 - group.near_start)
                if gone and self.placement.keeps_far and gone > self._first_kept(row):
                    return None
                firsts[row] = gone
        used = [place + 1 - first for place, first in zip(places, firsts, strict=True)]
        far = [group.far.tail_length for group in self.groups]
        return [self.slots, places, firsts, used, self.far_slots, far]

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
    """One layer of all rows: `[slots, key_heads, capacity, ...]`. whole: row r lies in slot r, and
    nothing else lies there."""

    facts: LayerFacts
    alike: Alike
    near: KVEntries
    far: KVEntries | None
    whole: bool
    far_whole: bool
    angles: Angles | None

    @property
    def far_query(self) -> IndexMap:
        return self.alike.placement.far_query

    def address(self) -> tuple[object, ...]:
        """What a captured step holds on to of it."""
        far = () if self.far is None else self.far.tensors()
        tensors = (*self.near.tensors(), *far, *(self.angles or ()))
        places = tuple((t.data_ptr(), t.shape, t.dtype) for t in tensors)
        return places, self.alike.line, self.whole, self.far_whole, self.far_query


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

    @property
    def lines(self) -> int:
        """How many a step's inputs have."""
        return FIRST_LINE + LINES * len(self.alikes)

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

    def inputs(self, sequences: Seq[Sequence], tokens: Seq[int]) -> list[list[int]] | None:
        """The lines of a step, each with a 0 behind the rows; None where something else than such
        steps has changed what is kept, or where another kind of step is due.

        Args:
            sequences: the rows.
            tokens: the next of each.
        """
        if len(sequences) != len(self):
            return None
        births = [len(sequence) for sequence in sequences]
        positions = [a + b for a, b in zip(births, self._offsets, strict=True)]
        if max(positions) >= self.limit or not self._current(sequences):
            return None
        found = [[*tokens, 0], [*births, 0], [*positions, 0]]
        for alike in self.alikes:
            lines = alike.lines(births)
            if lines is None:
                return None
            found += [[*line, 0] for line in lines]
        return found

    def _current(self, sequences: Seq[Sequence]) -> bool:
        """Whether these are the rows, each lying where it lay, with room for an entry."""
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
                    or near.room < 1
                ):
                    return False
        return True

    def advance(self) -> None:
        """The step wrote an entry of each row, which `Sequence.commit` keeps or `discard` drops."""
        for kept in self._rows:
            for each in kept:
                each.group.near.advance(1)
                each.layer.placed = 1

    # Opening.

    def _open(self, index: int) -> LayerRoom:
        layers = [layers[index] for layers in self._held]
        groups = [layer.groups[0] for layer in layers]
        facts = layers[0].facts
        near, slots, whole = _side_by_side([group.near for group in groups])
        far: KVEntries | None = None
        far_slots, far_whole = [0] * len(groups), False
        if any(len(group.far) for group in groups):
            far, far_slots, far_whole = _side_by_side([group.far for group in groups])
        angles = self._angles(layers[0])
        alike = self._alike(groups, slots, far_slots)
        return LayerRoom(facts, alike, near, far, whole, far_whole, angles)

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

    def _alike(self, groups: list[HeadGroup], slots: list[int], far_slots: list[int]) -> Alike:
        """What this layer shares its lengths with."""
        placement = groups[0].placement
        for each in self.alikes:
            if (
                each.placement == placement
                and each.slots == slots
                and each.far_slots == far_slots
                and all(map(_as_long, each.groups, groups))
            ):
                return each
        line = FIRST_LINE + LINES * len(self.alikes)
        windowed = placement.window is not None
        unknown = [(-1, 0)] * len(groups)
        new = Alike(line, windowed, placement, groups, slots, far_slots, unknown)
        self.alikes.append(new)
        return new


def _as_long(a: HeadGroup, b: HeadGroup) -> bool:
    return (len(a.near), len(a.far), a.near_start) == (len(b.near), len(b.far), b.near_start)


def open_rooms(sequences: Seq[Sequence]) -> Rooms | None:
    """Rooms of rows that can step in a static way now; None where one of them cannot."""
    rope = sequences[0].model.rope
    if rope is None or rope.switch is not None:
        return None
    if any(sequence.prompt_length is None or sequence.wants_token_nll for sequence in sequences):
        return None
    for layers in zip(*(sequence.layers for sequence in sequences), strict=True):
        groups = [layer.groups[0] for layer in layers]
        starts = [len(sequence) for sequence in sequences]
        if not all(map(_steps, layers, groups, starts)) or not _agree(layers, groups):
            return None
    for sequence in sequences:
        for _, group in sequence.groups():
            _make_room(group, sequence.expected - len(sequence))
    return Rooms(sequences)


def _steps(layer: LayerCache, group: HeadGroup, start: int) -> bool:
    """Whether one new token of a row sees entries that only grow until they are moved."""
    placement, window = group.placement, group.placement.window
    if layer.codec is not None or group.selector is not None or group.on_evict is not None:
        return False
    stores = [store for store in (group.near, group.far) if store.allocated is not None]
    if any(store.allocated.attention_mass is not None for store in stores if store.allocated):
        return False
    if window is None:
        return layer.steps_plainly(1)
    if placement.keeps_far and placement.keep_far is None:
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


def _make_room(group: HeadGroup, left: int) -> None:
    """Room for the next entries. left: tokens still to come, 0 or less where that is not known."""
    near, window = group.near, group.placement.window
    if near.room:
        return
    more = max(GROWTH, near.tail_length // SHARE)
    if left > 0:
        more = min(more, left)
    if window is not None:
        more = max(1, min(more, window + group.slack - near.tail_length))
    assert near.allocated is not None
    near.reserve(near.allocated, more)


def _side_by_side(stores: list[KVStore]) -> tuple[KVEntries, list[int], bool]:
    """The entries of several stores in one piece of memory `[slots, ...]`, moved there where they
    are not yet; the slot of each, and whether they are all that lies there, in their order."""
    if len(stores) == 1:
        (held,) = _allocated(stores)
        return KVEntries(held.key[None], held.value[None], held.index[None]), [0], True
    first = _allocated(stores)[0]
    for store in stores:
        if store.allocated is None:
            store.reserve(first, first.key.shape[1])
    slots = _slots(stores)
    if slots is None:
        _move_together(stores)
        slots = list(range(len(stores)))
    first = _allocated(stores)[0]
    memory = KVEntries(*map(_memory, (first.key, first.value, first.index)))
    return memory, slots, slots == list(range(len(memory.key)))


def _allocated(stores: list[KVStore]) -> list[KVEntries]:
    return [store.allocated for store in stores if store.allocated is not None]


def _slots(stores: list[KVStore]) -> list[int] | None:
    """The slots of stores that lie in one piece of memory; None where they do not."""
    found = {
        tuple(_slot(mine, columns[0]) for mine in columns)
        for columns in zip(*(held.tensors() for held in _allocated(stores)), strict=True)
    }
    if len(found) != 1:
        return None
    (slots,) = found
    return None if None in slots else [slot for slot in slots if slot is not None]


def _slot(mine: Tensor, other: Tensor) -> int | None:
    """In which slot of its memory a tensor lies, if another one lies in such a slot too."""
    alike = mine.shape == other.shape and mine.is_contiguous() and other.is_contiguous()
    there = mine.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    offset, size = mine.storage_offset(), mine.numel()
    return offset // size if alike and there and not offset % size else None


def _memory(tensor: Tensor) -> Tensor:
    """All slots of the memory in one of which a tensor lies."""
    size = tensor.numel()
    slots = tensor.untyped_storage().nbytes() // (size * tensor.element_size())
    return tensor.as_strided((slots, *tensor.shape), (size, *tensor.stride()), 0)


def _move_together(stores: list[KVStore]) -> None:
    held = _allocated(stores)
    capacity = max(each.key.shape[1] for each in held)
    heads = max(each.index.shape[0] for each in held)
    key, value, index = (
        like.new_empty(len(stores), n, capacity, *like.shape[2:])
        for like, n in (
            (held[0].key, held[0].key.shape[0]), (held[0].value, held[0].value.shape[0]),
            (held[0].index, heads),
        )
    )  # fmt: skip
    for row, store in enumerate(stores):
        store.move(KVEntries(key[row], value[row], index[row]))


__all__ = ["Alike", "LayerRoom", "Rooms", "open_rooms"]
