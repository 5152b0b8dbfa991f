"""One decoding step of some rows as a function of tensors alone.

Everything that differs from step to step is in `inputs`: token ids, birth ids, positions, and for
layers that are alike where their new entry goes and what is visible. So the step can be captured
once and replayed, while memory stays where it is.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence as Seq
from typing import cast

import torch
from torch import Tensor

from lengthwise.engine.kernels.choice import overridden, using
from lengthwise.engine.kernels.lengths import RoomPart, attend_rows, flash_serves
from lengthwise.engine.kv_cache.placement import same
from lengthwise.engine.static.rooms import (
    BIRTHS,
    FAR_SLOT,
    FAR_USED,
    FIRST,
    IDS,
    PLACE,
    POSITIONS,
    SLOT,
    USED,
    LayerRoom,
    Rooms,
)
from lengthwise.models.fused import FusedForward, Parts
from lengthwise.models.rope import Angles


class StaticStep:
    """inputs: int64 `[lines, rows + 1]`, see `Rooms.inputs`."""

    def __init__(self, fused: FusedForward, parts: Parts, rooms: Rooms, kernel: str | None) -> None:
        device = rooms.layers[0].near.key.device
        self.rooms = rooms
        self.parts = parts
        self._fused = fused
        # What outlives a request is written to in whatever mode the next one runs in.
        with torch.inference_mode(False):
            self.inputs = torch.zeros(rooms.lines, len(rooms) + 1, dtype=torch.long, device=device)
            self.ends = torch.arange(len(rooms) + 1, dtype=torch.int32, device=device)
        self._shared: dict[Hashable, object] = {}
        with using(kernel):
            self._flash = [_by_flash(room) for room in rooms.layers]

    def set(self, lines: Seq[Seq[int]]) -> None:
        self.inputs.copy_(torch.tensor(lines))

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Logits `[rows, vocab]`, and float64 `[2, rows]`: the likeliest tokens and their logits.
        Every row has a new entry behind its near ones."""
        self._shared.clear()
        logits = self._fused.run(self.parts, self._line(IDS), self._attention)
        tokens = logits.argmax(-1, keepdim=True)
        best = torch.cat([tokens.double(), logits.gather(-1, tokens).double()], 1).t()
        self._shared.clear()
        return logits, best

    def _line(self, number: int) -> Tensor:
        return self.inputs[number, : len(self.rooms)]

    def _attention(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        room = self.rooms.layers[layer]
        facts, line = room.facts, room.alike.line
        near = query
        if facts.layout is not None:
            angles = self._angles(room, False)
            near, key = facts.layout.rotate(query, angles), facts.layout.rotate(key, angles)
        self._write(room, key, value)
        parts = [
            RoomPart(
                near.transpose(0, 1), room.near.key, room.near.value, self.inputs[line + SLOT],
                self.inputs[line + FIRST], self.inputs[line + USED], room.whole,
            )
        ]  # fmt: skip
        if room.far is not None:
            far = near
            if room.far_query is not same and facts.layout is not None:
                far = facts.layout.rotate(query, self._angles(room, True))
            slots, used = self.inputs[line + FAR_SLOT], self.inputs[line + FAR_USED]
            parts.append(
                RoomPart(
                    far.transpose(0, 1), room.far.key, room.far.value, slots,
                    torch.zeros_like(slots), used, room.far_whole,
                )
            )  # fmt: skip
        out = attend_rows(parts, facts.scaling, self.ends, self._flash[layer])
        return out.transpose(0, 1)

    def _angles(self, room: LayerRoom, far: bool) -> Angles:
        """Angles `[rows, head_dim]` of the new tokens, or of their places towards far keys."""
        assert room.angles is not None
        cos, sin = room.angles
        key = "angles", id(cos), room.far_query if far else None
        found = self._shared.get(key)
        if found is None:
            here = room.far_query(self._line(BIRTHS)) if far else self._line(POSITIONS)
            found = self._shared[key] = cos.index_select(0, here), sin.index_select(0, here)
        return cast(Angles, found)

    def _write(self, room: LayerRoom, key: Tensor, value: Tensor) -> None:
        """Puts the new entries `[key_heads, rows, ...]` behind the near ones."""
        near = room.near
        for memory, new in ((near.key, key), (near.value, value)):
            flat = new.transpose(0, 1).reshape(-1, new.shape[-1])
            memory.view(-1, memory.shape[-1]).index_copy_(0, self._places(room, memory), flat)
        births = self._line(BIRTHS).int()[:, None].expand(-1, near.index.shape[1]).reshape(-1)
        near.index.view(-1).index_copy_(0, self._places(room, near.index), births)

    def _places(self, room: LayerRoom, memory: Tensor) -> Tensor:
        """Where the new entries go in memory `[slots, heads, capacity, ...]`, taken as one list of
        entries: int64 `[rows * heads]`."""
        _, heads, capacity = memory.shape[:3]
        line = room.alike.line
        key = "places", line, heads, capacity
        found = self._shared.get(key)
        if found is None:
            slots, places = self._line(line + SLOT), self._line(line + PLACE)
            head = torch.arange(heads, device=memory.device)
            all_heads = slots[:, None] * heads + head
            found = self._shared[key] = (all_heads * capacity + places[:, None]).reshape(-1)
        return cast(Tensor, found)


def _by_flash(room: LayerRoom) -> bool:
    """Whether the kernel of a GPU attends in this layer."""
    key, value = room.near.key[0], room.near.value[0]
    query = key[:1, :1].expand(room.facts.num_heads, 1, -1)
    wanted = overridden("step")
    return wanted in (None, "varlen") and flash_serves(query, key, value)


__all__ = ["StaticStep"]
