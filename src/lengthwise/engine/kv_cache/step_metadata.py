"""One block of new tokens on its way through one layer: its queries, rotated for every purpose.

Angles depend on the block and the kind of layer, not on the layer, so they are made once per
forward and shared by all layers.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.placement import IndexMap, Placement, same
from lengthwise.engine.kv_cache.entries import Entries

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.head_group import Group
    from lengthwise.engine.roles import Selector
    from lengthwise.models.adapted_model import Adapted
    from lengthwise.models.layer_facts import LayerFacts
    from lengthwise.models.rope import Angles, FrequencyRule


@dataclass(eq=False)
class Block:
    """New tokens of one sequence in one forward.

    start: birth id of the first; index int64 `[n]`: birth ids, which are start + depth for the
    nodes of a tree; ancestors: bool `[n, n]` for a tree, None for a chain. length: the sequence
    length that dynamic frequencies are made for. prompt: the block is a part of the prompt. angles
    and kept are what its layers share: angles by kind of layer, and which near entries survive a
    window.
    """

    start: int
    index: Tensor
    ancestors: Tensor | None = None
    length: int = 0
    offset: int = 0
    angles: dict[tuple[object, ...], Angles] = field(default_factory=dict)
    kept: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)
    transient: int = 0
    prompt: bool = False

    @property
    def count(self) -> int:
        return len(self.index)

    @cached_property
    def hidden(self) -> Tensor:
        """Bool `[n, n]`: which of the block's tokens each of them must not look at."""
        if self.ancestors is not None:
            return ~self.ancestors
        ones = torch.ones(self.count, self.count, dtype=torch.bool, device=self.index.device)
        return ones.triu_(1)

    @property
    def last(self) -> int:
        """The largest birth id of the block."""
        if self.ancestors is None:
            return self.start + self.count - 1
        return int(self.index.max())


@dataclass(eq=False)
class Frame:
    """A block in one layer. Queries are `[heads, n, head_dim]`.

    staged: the new entries are among the near ones already, and need no parts of their own.
    """

    block: Block
    model: Adapted
    layer: LayerFacts
    rule: FrequencyRule | None
    placement: Placement
    raw_query: Tensor
    near_query: Tensor
    far_query: Tensor
    near_key: Tensor
    value: Tensor
    heads: Tensor | None = None
    staged: bool = False

    @property
    def index(self) -> Tensor:
        return self.block.index

    @property
    def start(self) -> int:
        return self.block.start

    @property
    def decoding(self) -> bool:
        """Queries plan one by one. A prompt may well end in a chunk of one token: that is none."""
        return not self.block.prompt and (self.block.count == 1 or self.block.ancestors is not None)

    @property
    def raw_near(self) -> bool:
        """Near keys are stored un-rotated, because frequencies may still change."""
        return self.rule is not None and self.rule.dynamic

    def selects(self, selector: Selector) -> bool:
        return self.decoding or selector.query_block is not None

    def span(self, rows: slice) -> tuple[int, int]:
        """First and last birth id of the queries `rows`."""
        if self.block.ancestors is None:
            return self.start + rows.start, self.start + rows.stop - 1
        found = self.index[rows]
        return int(found.min()), int(found.max())

    def note_transient(self, blocks: Seq[Entries]) -> None:
        """Counts copies that live while a layer attends."""
        size = sum(t.numel() * t.element_size() for b in blocks for t in (b.key, b.value))
        self.block.transient = max(self.block.transient, size)

    # Rotation.

    def rotate_at(self, x: Tensor, positions: Tensor | None, amplitude: bool = True) -> Tensor:
        """x `[heads, n, head_dim]` un-rotated -> rotated at int positions `[n]` or `[heads, n]`.

        amplitude False gives a pure rotation (of keys that carry their amplitude already).
        """
        assert positions is not None
        if self.layer.pairing is None or self.model.rope is None:
            return x
        stop = int(positions.max()) + 1 if positions.numel() else 1
        cos, sin = angle_table(self.model, self.layer, self.block, self.rule, stop)
        if not amplitude:
            # At position 0 there is no rotation, so cos is the amplitude alone.
            x = x / cos[0]
        return self.layer.pairing.rotate(x, (cos[positions], sin[positions]))

    def rotate_read(self, entries: Entries, compact: bool) -> Tensor:
        """Keys stored un-rotated, rotated at their birth ids or at their ranks."""
        if compact:
            positions = torch.arange(len(entries), device=entries.key.device)
            return self.rotate_at(entries.key, positions)
        return self._rotate_by_index(entries, same)

    def read_far(self, entries: Entries, placement: Placement) -> Tensor:
        if not self.raw_near or placement.far_raw:
            return entries.key
        return self._rotate_by_index(entries, placement.far_key)

    def _rotate_by_index(self, entries: Entries, function: IndexMap) -> Tensor:
        index = entries.index.long()
        positions = function(index) + (self.block.offset if function is same else 0)
        return self.rotate_at(entries.key, positions[0] if len(index) == 1 else positions)

    def restamp(self, entries: Entries, placement: Placement) -> Entries:
        """Entries stored as near keys -> as far keys."""
        pairing = self.layer.pairing
        if pairing is None or placement.far_is_ordinary or self.raw_near or self.model.rope is None:
            return entries
        index = entries.index[0].long()
        target = torch.zeros_like(index) if placement.far_raw else placement.far_key(index)
        # A pure rotation by the difference: the key carries its amplitude already.
        delta = target - index - self.block.offset
        angles = self.model.rope.angles(
            pairing,
            self.model.kind(self.layer),
            delta,
            self.rule,
            self.block.length,
            amplitude=False,
        )
        return Entries(pairing.rotate(entries.key, angles), entries.value, entries.index,
                       entries.log_weight, entries.stat)  # fmt: skip

    def leaving(self, group: Group, stop: int) -> Entries | None:
        """The oldest `stop` near entries that survive the window, as far keys; None if none do."""
        tail = group.near.tail
        assert tail is not None
        keep = group.placement.keep_far
        if keep is None:
            entries = tail.slice(0, stop)
        else:
            key = (id(group.placement), group.near_start, stop)
            if key not in self.block.kept:
                self.block.kept[key] = keep(tail.index[0, :stop].long()).nonzero()[:, 0]
            ids = self.block.kept[key]
            if not len(ids):
                return None
            entries = tail.take(ids)
        restamped = self.restamp(entries, group.placement)
        if self.raw_near:
            key_at = self._rotate_by_index(restamped, group.placement.far_key)
            return Entries(key_at, restamped.value, restamped.index, restamped.log_weight)
        return restamped


def angle_table(
    model: Adapted, layer: LayerFacts, block: Block, rule: FrequencyRule | None, stop: int
) -> Angles:
    """Angles `[at least stop, head_dim]` of the positions 0, 1, ... for one kind of layer."""
    assert layer.pairing is not None and model.rope is not None
    kind = model.kind(layer)
    if rule is None or not rule.dynamic:
        return model.rope.table(layer.pairing, kind, stop, rule, block.length)
    key = ("dynamic", kind, id(layer.pairing), id(rule))
    table = block.angles.get(key)
    if table is None or len(table[0]) < stop:
        positions = torch.arange(max(stop, block.last + 1 + block.offset), device=model.device)
        table = model.rope.angles(layer.pairing, kind, positions, rule, block.length)
        block.angles[key] = table
    return table


def block_angles(
    model: Adapted, layer: LayerFacts, block: Block, rule: FrequencyRule | None, where: IndexMap
) -> Angles:
    """Angles `[n, head_dim]` at which the block's tokens stand, made once per kind of layer."""
    # Layers with a window of their own share pairing and kind with others, but not the rule.
    key = (model.kind(layer), id(layer.pairing), id(rule), where)
    found = block.angles.get(key)
    if found is None:
        if where is same and block.ancestors is None:
            start = block.start + block.offset
            stop = start + block.count
            cos, sin = angle_table(model, layer, block, rule, stop)
            found = cos[start:stop], sin[start:stop]
        else:
            positions = where(block.index) + (block.offset if where is same else 0)
            cos, sin = angle_table(model, layer, block, rule, int(positions.max()) + 1)
            found = cos[positions], sin[positions]
        block.angles[key] = found
    return found
