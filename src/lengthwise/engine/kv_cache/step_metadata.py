"""The new tokens of a step on their way through one layer: queries, rotated for every purpose.

Angles depend on the new tokens and on the `layer_type` of a layer, not on the layer itself. So they
are made once per forward and shared by all layers.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.entries import KVEntries
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.placement import IndexMap, Placement, same
from lengthwise.engine.kv_cache.selection import Selector
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.models.rope import Angles, FrequencyRule, StepAngles


@dataclass(eq=False)
class StepMetadata:
    """New tokens of one sequence in one forward.

    start: birth id of the first.
    index: birth ids int64 `[n]`, which are start + depth for the nodes of a tree.
    ancestors: bool `[n, n]` for a tree, None for a chain.
    length: the sequence length that dynamic frequencies are made for.
    prompt: the tokens are a part of the prompt.
    angles, kept, turns: what the layers share: where the tokens stand, which near entries survive a
    window, and how far they are turned to be far ones.
    elsewhere: the same tokens for layers that attend on other devices.
    notes: by token, what selectors of some layers leave for those of later ones (`notes_of`).
    """

    start: int
    index: Tensor
    ancestors: Tensor | None = None
    length: int = 0
    offset: int = 0
    angles: StepAngles | None = None
    kept: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)
    turns: dict[tuple[object, ...], Angles] = field(default_factory=dict)
    transient: int = 0
    prompt: bool = False
    elsewhere: dict[torch.device, StepMetadata] = field(default_factory=dict)
    notes: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.index)

    def on(self, device: torch.device) -> StepMetadata:
        """The same tokens where a layer attends.

        Args:
            device: of the layer.
        """
        if device == self.index.device:
            return self
        if device not in self.elsewhere:
            self.elsewhere[device] = StepMetadata(
                self.start, self.index.to(device),
                None if self.ancestors is None else self.ancestors.to(device), self.length,
                self.offset, None if self.angles is None else self.angles.on(device),
                prompt=self.prompt, notes=self.notes,
            )  # fmt: skip
        return self.elsewhere[device]

    def notes_of(self, row: int) -> dict[str, Tensor]:
        """What selectors note for a block of queries that plans together, in all layers.

        Args:
            row: the first query of the block, among the new tokens. Nodes of a tree have numbers of
                their own, so each has notes of its own.
        """
        return self.notes.setdefault(self.start + row, {})

    @cached_property
    def hidden(self) -> Tensor:
        """Bool `[n, n]`: which of the new tokens each of them must not look at."""
        if self.ancestors is not None:
            return ~self.ancestors
        ones = torch.ones(self.count, self.count, dtype=torch.bool, device=self.index.device)
        return ones.triu_(1)

    @property
    def last(self) -> int:
        """The largest birth id of the new tokens."""
        if self.ancestors is None:
            return self.start + self.count - 1
        return int(self.index.max())


@dataclass(eq=False)
class LayerInputs:
    """The new tokens of a step in one layer. Queries are `[heads, n, head_dim]`.

    staged: the new entries are among the near ones already, and need no parts of their own.
    """

    metadata: StepMetadata
    model: AdaptedModel
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
        return self.metadata.index

    @property
    def start(self) -> int:
        return self.metadata.start

    @property
    def decoding(self) -> bool:
        """Queries plan one by one. A prompt may well end in a chunk of one token: that is none."""
        return not self.metadata.prompt and (
            self.metadata.count == 1 or self.metadata.ancestors is not None
        )

    @property
    def raw_near(self) -> bool:
        """Near keys are stored un-rotated, because frequencies may still change."""
        return self.rule is not None and self.rule.dynamic

    def selects(self, selector: Selector) -> bool:
        return self.decoding or selector.query_block is not None

    def span(self, rows: slice) -> tuple[int, int]:
        """First and last birth id of the queries `rows`."""
        if self.metadata.ancestors is None:
            return self.start + rows.start, self.start + rows.stop - 1
        found = self.index[rows]
        return int(found.min()), int(found.max())

    def note_transient(self, blocks: Seq[KVEntries]) -> None:
        """Counts copies that live while a layer attends."""
        self.note_copied(*(t for b in blocks for t in (b.key, b.value)))

    def note_copied(self, *tensors: Tensor) -> None:
        """Counts tensors that live while a layer attends."""
        self.note_bytes(sum(t.numel() * t.element_size() for t in tensors))

    def note_taken(self, store: KVStore) -> None:
        """Counts what a store has copied for its readers."""
        self.note_bytes(store.copied)
        store.copied = 0

    def note_bytes(self, size: int) -> None:
        """Counts bytes that are held beside the cache for a while."""
        self.metadata.transient = max(self.metadata.transient, size)

    # Rotation.

    def rotate_at(self, x: Tensor, positions: Tensor | None, amplitude: bool = True) -> Tensor:
        """x `[heads, n, head_dim]` un-rotated -> rotated at int positions `[n]` or `[heads, n]`.

        amplitude False gives a pure rotation (of keys that carry their amplitude already).
        """
        assert positions is not None
        layer, rope, metadata = self.layer, self.model.rope, self.metadata
        if layer.layout is None or rope is None:
            return x
        angles = metadata.angles
        if angles is None:
            start = metadata.start if metadata.ancestors is None else None
            angles = StepAngles(rope, metadata.index, start, metadata.offset, metadata.length)
            metadata.angles = angles
        stop = int(positions.max()) + 1 if positions.numel() else 1
        cos, sin = angles.table(layer.layout, layer.rotary_type, self.rule, stop)
        if not amplitude:
            # At position 0 there is no rotation, so cos is the amplitude alone.
            x = x / cos[0]
        return layer.layout.rotate(x, (cos[positions], sin[positions]))

    def rotate_read(self, entries: KVEntries, compact: bool) -> Tensor:
        """Keys stored un-rotated, rotated at their birth ids or at their ranks."""
        if compact:
            positions = torch.arange(len(entries), device=entries.key.device)
            return self.rotate_at(entries.key, positions)
        return self.rotate_by_index(entries, same)

    def turns_far(self, placement: Placement) -> bool:
        """Whether far keys are rotated when they are read."""
        return self.raw_near and not placement.far_raw

    def read_far(self, entries: KVEntries, placement: Placement) -> Tensor:
        if not self.turns_far(placement):
            return entries.key
        return self.rotate_by_index(entries, placement.far_key)

    def rotate_by_index(self, entries: KVEntries, function: IndexMap) -> Tensor:
        index = entries.index.long()
        positions = function(index) + (self.metadata.offset if function is same else 0)
        return self.rotate_at(entries.key, positions[0] if len(index) == 1 else positions)

    def as_far(
        self, entries: KVEntries, placement: Placement, spot: tuple[int, int] | None = None
    ) -> KVEntries:
        """Entries stored as near keys -> as far keys. spot: says which near entries of a step they
        are, the same in all layers with this placement, which then share the angles."""
        layout, kind = self.layer.layout, self.layer.rotary_type
        if layout is None or placement.far_is_ordinary or self.raw_near or self.model.rope is None:
            return entries
        turns = self.metadata.turns if spot is not None else {}
        key = placement, spot, layout, kind, self.rule
        if key not in turns:
            index = entries.index[0].long()
            target = torch.zeros_like(index) if placement.far_raw else placement.far_key(index)
            # A pure rotation by the difference: the key carries its amplitude already.
            turns[key] = self.model.rope.angles(
                layout, kind, target - index - self.metadata.offset, self.rule,
                self.metadata.length, amplitude=False,
            )  # fmt: skip
        angles = turns[key]
        return KVEntries(layout.rotate(entries.key, angles), entries.value, entries.index,
                       entries.log_weight, entries.attention_mass)  # fmt: skip
