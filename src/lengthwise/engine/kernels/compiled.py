"""What the kernels in Triton share on the host: whether there is Triton, and how keys are split.

A kernel splits the keys of a head into spans, so that one head fills a GPU (flash-decoding). Each
span gives an output and its log-sum-exp, which are then joined as `merge` joins parts. What runs on
the device is `programs`, which is imported where there is Triton.

Triton comes with torch on CUDA. Elsewhere TRITON_INTERPRET=1, set before Triton is imported, runs
the same programs in numpy, slowly: for tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")
DTYPES = (torch.float16, torch.bfloat16)
# Products in float32 take Triton minutes to compile; in numpy they are what is exact.
EXACT = (torch.float32,)
LARGEST_HEAD = 256
# A product on a GPU has at least so many rows and channels; a tile has at most so many rows.
LEAST, MOST_ROWS = 16, 64
# Keys of a span are a multiple of this.
STEP = 128
# Programs that keep a multiprocessor busy.
BUSY = 2


@cache
def installed() -> bool:
    """Whether there is Triton."""
    return find_spec("triton") is not None


def runs(device: str, dtype: torch.dtype, size: int) -> bool:
    """Whether kernels in Triton run on such a device, in a dtype, with heads of a size."""
    if size > LARGEST_HEAD or not (device == "cuda" or INTERPRETED):
        return False
    return dtype in (DTYPES + EXACT if INTERPRETED else DTYPES) and installed()


def why_not(device: str) -> str:
    """One line for a machine whose GPU has to do without Triton; "" elsewhere."""
    if device != "cuda" or installed():
        return ""
    return (
        "triton is not installed: trees, chosen keys and encoded keys go by plain products; "
        "`pip install triton` brings it"
    )


def programs() -> ModuleType:
    """What runs on the device; only where there is Triton."""
    from lengthwise.engine.kernels import programs

    return programs


@cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a GPU."""
    if device.type != "cuda":
        return 4
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@dataclass(frozen=True)
class Grid:
    """How the work is split: rows of a tile, programs along (rows, spans, owners), keys of a
    span."""

    rows: int
    programs: tuple[int, int, int]
    span: int

    @classmethod
    def of(cls, rows: int, keys: int, owners: int, device: torch.device) -> Grid:
        """For `owners` sets of rows over so many keys each."""
        tile = min(MOST_ROWS, max(LEAST, _power(rows)))
        tiles = -(-rows // tile)
        wanted = max(1, BUSY * processors(device) // (tiles * owners))
        span = -(-keys // wanted)
        span = max(1, -(-span // STEP)) * STEP
        return cls(tile, (tiles, -(-keys // span), owners), span)

    @property
    def bucket(self) -> int:
        """Spans of one bucket share what was found to be fastest."""
        return self.span.bit_length()


def width(channels: int) -> int:
    """Channels of a tile: a power of two."""
    return max(LEAST, _power(channels))


def _power(number: int) -> int:
    return 1 << (number - 1).bit_length()


def in_spans(
    heads: int, queries: int, size: int, dtype: torch.dtype, grid: Grid, device: torch.device,
    run: Callable[[Tensor, Tensor], object],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Runs a program for all spans and joins what they give.

    Args:
        heads, queries, size: of the output `[heads, queries, size]`.
        dtype: of the output.
        grid: its spans.
        device: where.
        run: fills the outputs `[spans, heads, queries, size]` and their LSE `[spans, heads,
            queries]`.
    """
    spans = grid.programs[1]
    with _on(device):
        out = torch.empty(heads, queries, size, dtype=dtype, device=device)
        lse = torch.empty(heads, queries, dtype=torch.float32, device=device)
        if spans == 1:
            run(out, lse)
            return out, lse
        each = torch.empty(spans, heads, queries, size, dtype=torch.float32, device=device)
        theirs = torch.empty(spans, heads, queries, dtype=torch.float32, device=device)
        run(each, theirs)
        rows = heads * queries
        programs().join[(rows,)](each, theirs, out, lse, rows, spans, size, width(size))
    return out, lse


@contextmanager
def _on(device: torch.device) -> Iterator[None]:
    """Triton launches on the device that is current."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        yield


def flat(x: Tensor) -> Tensor:
    """x with the numbers of its last dimension side by side."""
    return x if x.stride(-1) == 1 else x.contiguous()
