"""One step of some rows as a function of tensors alone: a token of each, or the nodes of its tree.

Everything that differs from step to step is in `Inputs`. So the step can be captured once and
replayed, while memory stays where it is. Trees are filled up to one of few sizes with copies of
their root, which compute, and write, what the root does.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence as Seq
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from lengthwise.engine.kernels.lengths import OwnPart, RoomPart, attend_rows, flash_serves
from lengthwise.engine.kv_cache.placement import same
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.speculative.tree import Tree
from lengthwise.engine.static.rooms import (
    FAR_START,
    FAR_USED,
    FIRST,
    LINES,
    PLACE,
    START,
    USED,
    LayerRoom,
    Rooms,
)
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.fused import FusedForward, Parts
from lengthwise.models.rope import Angles

# Nodes of a tree that a step is made for.
SIZES = (1, 4, 8, 16, 32, 64)
# Lines of `Inputs.tokens`; STEP is how far behind the first new entry a node's goes.
IDS, BIRTHS, POSITIONS, STEP = range(4)


@dataclass(frozen=True)
class Inputs:
    """What one step is told.

    tokens: int64 `[4, rows * nodes]`. visible: bool `[rows, nodes, nodes]`, which nodes of its row
    a node sees. lines: int64 `[lines, rows + 1]`, see `Rooms.lines`.
    """

    tokens: Tensor
    visible: Tensor
    lines: Tensor

    def copy_(self, other: Inputs) -> None:
        self.tokens.copy_(other.tokens)
        self.lines.copy_(other.lines)
        if self.visible.shape[1] > 1:
            self.visible.copy_(other.visible)


def size_of(nodes: Seq[int]) -> int | None:
    """The least of SIZES that holds so many nodes of each row; None where none does."""
    return next((size for size in SIZES if size >= max(nodes)), None)


def inputs_of(
    sequences: Seq[Sequence], tokens: Seq[Seq[int]], trees: Seq[Tree] | None, lines: list[list[int]]
) -> Inputs:
    """What a step is told, on the CPU.

    Args:
        sequences: the rows.
        tokens: of each, those of its tree's nodes, or the next one.
        trees: where there are any.
        lines: what `Rooms.lines` gave.
    """
    size = size_of(list(map(len, tokens))) or 1
    flat: list[list[int]] = [[], [], [], []]
    visible = torch.zeros(len(sequences), size, size, dtype=torch.bool)
    visible[:, :, 0] = True
    for row, (sequence, ids) in enumerate(zip(sequences, tokens, strict=True)):
        spare, start = [0] * (size - len(ids)), len(sequence)
        depths = [0] if trees is None else trees[row].depths
        births = [start + depth for depth in [*depths, *spare]]
        flat[IDS] += [*ids, *(ids[0] for _ in spare)]
        flat[BIRTHS] += births
        flat[POSITIONS] += [birth + sequence.offset for birth in births]
        flat[STEP] += [*range(len(ids)), *spare]
        if trees is not None:
            visible[row, : len(ids), : len(ids)] = trees[row].ancestors()
    return Inputs(torch.tensor(flat), visible, torch.tensor(lines))


class StaticStep:
    """inputs: where it is told what to do, on the device. flash: see `by_flash`."""

    def __init__(
        self, fused: FusedForward, parts: Parts, rooms: Rooms, size: int, flash: list[bool]
    ) -> None:
        device = rooms.layers[0].near.key.device
        rows = len(rooms)
        self.rooms = rooms
        self._parts = parts
        self._fused = fused
        self._shape = rows, size
        # What outlives a request is written to in whatever mode the next one runs in.
        with torch.inference_mode(False):
            self.inputs = Inputs(
                torch.zeros(4, rows * size, dtype=torch.long, device=device),
                torch.ones(rows, size, size, dtype=torch.bool, device=device),
                torch.zeros(LINES * len(rooms.alikes), rows + 1, dtype=torch.long, device=device),
            )
            self._ends = torch.arange(rows + 1, dtype=torch.int32, device=device) * size
        self._shared: dict[Hashable, object] = {}
        self._flash = flash

    def __call__(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logits `[rows * nodes, vocab]`; float64 `[2, rows * nodes]`, the likeliest tokens and
        their logits; and the hidden states `[rows * nodes, hidden]` that logits are read from.
        Every row has its new entries behind its near ones."""
        self._shared.clear()
        states: list[Tensor] = []
        logits = self._fused.run(
            self._parts, self.inputs.tokens[IDS], self._attention, states=states
        )
        tokens = logits.argmax(-1, keepdim=True)
        best = torch.cat([tokens.double(), logits.gather(-1, tokens).double()], 1).t()
        self._shared.clear()
        return logits, best, states[0]

    def _by_row(self, x: Tensor) -> Tensor:
        """`[heads, rows * nodes, dim]` -> `[rows, nodes, heads, dim]`."""
        return x.transpose(0, 1).view(*self._shape, len(x), -1)

    def _attention(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        room, lines = self.rooms.layers[layer], self.inputs.lines
        facts, line = room.facts, room.alike.line
        near = query
        if facts.layout is not None:
            angles = self._angles(room, False)
            near, key = facts.layout.rotate(query, angles), facts.layout.rotate(key, angles)
        self._write(room, key, value)
        by_row = self._by_row(near)
        parts = [
            RoomPart(
                by_row, room.near.key, room.near.value, room.near.capacity, lines[line + START],
                lines[line + FIRST], lines[line + USED],
            )
        ]  # fmt: skip
        own: OwnPart | None = None
        if self._shape[1] > 1:
            visible = self.inputs.visible
            own = OwnPart(by_row, self._by_row(key), self._by_row(value), visible)
        if room.far is not None:
            far = query
            if facts.layout is not None:
                far = facts.layout.rotate(query, self._angles(room, room.far_query is not same))
            starts = lines[line + FAR_START]
            parts.append(
                RoomPart(
                    self._by_row(far), room.far.key, room.far.value, room.far.capacity, starts,
                    torch.zeros_like(starts), lines[line + FAR_USED],
                )
            )  # fmt: skip
        out = attend_rows(parts, own, facts.scaling, self._ends, self._flash[layer])
        return out.flatten(0, 1).transpose(0, 1)

    def _angles(self, room: LayerRoom, far: bool) -> Angles:
        """Angles `[rows * nodes, head_dim]` of the new tokens, or of their places towards far
        keys."""
        assert room.angles is not None
        cos, sin = room.angles
        key = "angles", id(cos), room.far_query if far else None
        found = self._shared.get(key)
        if found is None:
            tokens = self.inputs.tokens
            here = room.far_query(tokens[BIRTHS]) if far else tokens[POSITIONS]
            found = self._shared[key] = cos.index_select(0, here), sin.index_select(0, here)
        return cast(Angles, found)

    def _write(self, room: LayerRoom, key: Tensor, value: Tensor) -> None:
        """Puts the new entries `[key_heads, rows * nodes, ...]` behind the near ones."""
        near, places = room.near, self._places(room.alike.line)
        near.key.index_copy_(0, places, key.transpose(0, 1))
        near.value.index_copy_(0, places, value.transpose(0, 1))
        births = self.inputs.tokens[BIRTHS].int()[:, None].expand(-1, near.index.shape[1])
        near.index.index_copy_(0, places, births)

    def _places(self, line: int) -> Tensor:
        """Where the new entries go, int64 `[rows * nodes]`."""
        found = self._shared.get(("places", line))
        if found is None:
            rows, size = self._shape
            lines, steps = self.inputs.lines, self.inputs.tokens[STEP].view(rows, size)
            ends = (lines[line + START] + lines[line + PLACE])[:rows, None]
            found = self._shared["places", line] = (ends + steps).reshape(-1)
        return cast(Tensor, found)


def by_flash(model: AdaptedModel, wanted: str | None) -> list[bool]:
    """Of each layer whether the kernel of a GPU attends in it. wanted: by an override."""
    if wanted not in (None, "varlen"):
        return [False] * len(model.layers)
    found: dict[tuple[int, int, int, int], bool] = {}
    for facts in model.layers:
        shape = facts.num_heads, facts.num_kv_heads, facts.head_dim, facts.value_dim
        if shape not in found:
            heads, key_heads, dim, value_dim = shape
            query, key, value = (
                torch.empty(each, 1, size, dtype=model.dtype, device=model.device)
                for each, size in ((heads, dim), (key_heads, dim), (key_heads, value_dim))
            )
            found[shape] = flash_serves(query, key, value)
    return [found[f.num_heads, f.num_kv_heads, f.head_dim, f.value_dim] for f in model.layers]


__all__ = ["SIZES", "Inputs", "StaticStep", "by_flash", "inputs_of", "size_of"]
