"""What codecs with a plain residual share: when entries are closed, and how closed ones grow.

The newest `residual` entries always stay plain. As soon as `step` more have gathered, the oldest of
the plain ones are encoded and joined to what is encoded already, so a segment has one encoded block
whatever its length. How many are encoded depends only on how many there are, not on how they came.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, Self

import torch
from torch import Tensor

from lengthwise.engine.entries import Encoded, Entries, Segment
from lengthwise.engine.roles import Moment
from lengthwise.errors import LengthwiseError


class Growing(Encoded, Protocol):
    """An encoded block that newer ones of its kind can be joined to."""

    def join(self, newer: Self) -> Self:
        """Both, this one's entries first, without decoding either."""
        ...


class ResidualCodec(ABC):
    """Encodes all but the newest entries; `close` is the codec proper.

    residual: entries that stay plain at least. step: entries that are encoded at a time.
    Segments with merged entries (`log_weight`) are left alone: retention rewrites those.
    """

    window = 0

    def __init__(self, residual: int, step: int) -> None:
        self.residual = residual
        self.step = step

    @abstractmethod
    def close(self, entries: Entries) -> Growing:
        """Entries, a multiple of `step` of them, in this codec's form and in memory of its own."""

    def encode(self, segment: Segment, moment: Moment) -> None:
        tail = segment.tail
        if tail is None or tail.log_weight is not None:
            return
        count = (len(tail) - self.residual) // self.step * self.step
        if count <= 0:
            return
        block = self.close(tail.slice(0, count))
        if segment.closed:
            older = segment.closed.pop()
            block = older.join(block)  # type: ignore[attr-defined]
        # Room up to the next encoding at once: the plain part never moves in between.
        segment.close(block, count, self.residual + self.step - (len(tail) - count))

    def room(self, segment: Segment) -> int | None:
        tail = segment.tail
        if tail is not None and tail.log_weight is not None:
            return None
        return max(1, self.residual + self.step - segment.tail_length)

    def encoded(self, n: int) -> int:
        """How many of n entries are encoded."""
        return max(0, (n - self.residual) // self.step * self.step)


def join_index(older: Tensor, newer: Tensor) -> Tensor:
    """Joins birth ids `[1 or heads, n]`."""
    heads = max(len(older), len(newer))
    return torch.cat([older.expand(heads, -1), newer.expand(heads, -1)], 1)


def scale_dtype(dtype: torch.dtype) -> torch.dtype:
    """What scales are stored in: the model's own dtype where it has 16 bits, else float16."""
    return dtype if dtype.itemsize == 2 else torch.float16


def to_scale(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Scales or minima in the dtype they are stored in; raises where they do not fit."""
    stored = x.to(scale_dtype(dtype))
    if not bool(stored.isfinite().all()):
        raise LengthwiseError(
            f"keys or values reach {float(x.abs().max()):.3g}, beyond scales in "
            f"{str(stored.dtype).removeprefix('torch.')}: allowed are finite numbers up to "
            f"{torch.finfo(stored.dtype).max:.3g}; load the model in bfloat16"
        )
    return stored
