"""RMSNorm by the calls that were timed to be fastest on this machine.

`torch.rms_norm` is one kernel on a GPU; on a CPU it falls apart into some ten small ones. A
LayerNorm has a kernel there: over x and -x, whose mean is 0, it is an RMSNorm.

    y = x / sqrt(mean(x^2) + eps) * weight
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise._utils.timings import Timed, Timings, drawn, timing

# x `[n, size]`, (size,), weight `[size]`, eps.
NormWay = Callable[[Tensor, tuple[int], Tensor, float], Tensor]
# Rows that are timed, and from how many on the larger number decides.
ROWS = (1, 1024)
MANY = 16
# Another way than the first has to be this much faster.
MARGIN = 0.9


def doubled(x: Tensor, shape: tuple[int], weight: Tensor, eps: float) -> Tensor:
    """A LayerNorm of x and -x."""
    (size,) = shape
    return F.layer_norm(torch.cat([x, -x], -1), (2 * size,), eps=eps)[..., :size] * weight


def parts(x: Tensor, shape: tuple[int], weight: Tensor, eps: float) -> Tensor:
    """The equation, in float32."""
    exact = x.float()
    scale = exact.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
    return (exact * scale).to(x.dtype) * weight


def by_length(x: Tensor, shape: tuple[int], weight: Tensor, eps: float) -> Tensor:
    """The length of a single row, as a number of Python; more rows are `doubled`."""
    if x.shape[0] != 1:
        return doubled(x, shape, weight, eps)
    length = torch.linalg.vector_norm(x, dtype=torch.float32).item()
    mean = length * length / shape[0] + eps
    return x.mul(mean**-0.5 if mean else math.inf).mul_(weight)


# First PyTorch's own.
WAYS: dict[str, NormWay] = {
    "whole": torch.rms_norm, "doubled": doubled, "by_length": by_length, "parts": parts
}  # fmt: skip


class Norms:
    """Which way serves for vectors of a size: for fewer than MANY rows, and for more."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device, timed: bool) -> None:
        self.few = self.many = WAYS["whole"]
        self._found: list[Mapping[str, float]] = []
        self._bytes, self._size = 2 * size * dtype.itemsize, size
        if timed and device.type == "cpu" and dtype != torch.float64 and timing():
            timings = Timings(device)
            self._found = [
                timings.seconds(_subject(size, dtype, rows), partial(_made, size, dtype, rows))
                for rows in ROWS
            ]
            self.few, self.many = (WAYS[fastest(seconds)] for seconds in self._found)
            timings.save()

    def timed(self) -> Iterator[Timed]:
        """What was timed; vectors are read and written."""
        for rows, seconds in zip(ROWS, self._found, strict=bool(self._found)):
            chosen, amount = fastest(seconds), rows * self._bytes
            yield Timed("norm", rows, str(self._size), seconds, chosen, amount, "GB/s")


def _subject(size: int, dtype: torch.dtype, rows: int) -> str:
    return f"norm {str(dtype).removeprefix('torch.')} {rows}x{size}"


def _made(size: int, dtype: torch.dtype, rows: int) -> Mapping[str, Callable[[], object]]:
    x, weight = drawn(rows, size, dtype=dtype), drawn(size, dtype=dtype)
    return {name: partial(way, x, (size,), weight, 1e-5) for name, way in WAYS.items()}


def fastest(seconds: Mapping[str, float]) -> str:
    """Which of WAYS serves."""
    first = next(iter(WAYS))
    handicap = {name: s * (MARGIN if name == first else 1) for name, s in seconds.items()}
    return min(handicap, key=lambda name: handicap[name])


__all__ = ["MANY", "WAYS", "NormWay", "Norms", "by_length", "doubled", "fastest", "parts"]
