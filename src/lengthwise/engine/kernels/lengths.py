"""One query a row over rooms, of which it is read on the device how much is in use.

Shapes are static, so that calls can be captured as a CUDA graph and replayed while rows grow. On a
GPU the flash kernel reads all rows in one call; `masked` is the plain twin and serves elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from lengthwise._utils.messages import first_line, say_once
from lengthwise.engine.kernels import varlen
from lengthwise.engine.kernels.merge import merge
from lengthwise.engine.kernels.part import Answer

# Largest share by which the kernel may differ from its twin where it is tried.
NEAR = 2e-2


@dataclass(frozen=True)
class RoomPart:
    """Keys that every row sees in one slot of a room.

    query: `[rows, heads, head_dim]`, rotated for this part.
    key, value: `[slots, key_heads, capacity, dim]`, contiguous.
    slots, first, used: int64 `[rows + 1]`, what lies at the end being 0. Row r sees the entries
        first[r] to first[r] + used[r] - 1 of slot slots[r]; at least one of some part.
    whole: row r reads slot r, and there are no more slots than rows.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    slots: Tensor
    first: Tensor
    used: Tensor
    whole: bool


def attend_rows(
    parts: Sequence[RoomPart], scaling: float, ends: Tensor, flash: bool = False
) -> Tensor:
    """One softmax a row over what it sees of all parts: `[rows, heads, value_dim]`.

    ends: int32 `[rows + 1]`, 0, 1, 2, ... flash: by the kernel of a GPU (see `flash_serves`).
    """
    if not flash:
        return masked(parts, scaling)
    answers = [_flash(part, scaling, ends) for part in parts]
    out = answers[0][0] if len(answers) == 1 else merge(answers)[0]
    return out.transpose(0, 1)


def masked(parts: Sequence[RoomPart], scaling: float) -> Tensor:
    """The plain twin: scores of all that is allocated, those of other entries masked."""
    scores, values = [], []
    for part in parts:
        rows, heads, head_dim = part.query.shape
        key, value = part.key, part.value
        if not part.whole:
            key, value = key[part.slots[:rows]], value[part.slots[:rows]]
        at = torch.arange(key.shape[2], device=key.device)
        first, used = part.first[:rows, None], part.used[:rows, None]
        hidden = ((at < first) | (at >= first + used))[:, None]
        query = (part.query * scaling).reshape(rows, key.shape[1], -1, head_dim)
        products = query @ key.transpose(2, 3)
        scores.append(products.masked_fill(hidden[:, None], -math.inf))
        # What lies in spare room may be no number, which times 0 is none either.
        values.append(value.masked_fill(hidden[..., None], 0))
    weights = torch.softmax(torch.cat(scores, -1), -1, dtype=torch.float32).to(values[0].dtype)
    each = weights.split([value.shape[2] for value in values], -1)
    out: Tensor = each[0] @ values[0]
    for weight, value in zip(each[1:], values[1:], strict=True):
        out = out + weight @ value
    return out.reshape(rows, heads, -1)


def _flash(part: RoomPart, scaling: float, ends: Tensor) -> Answer:
    """Output `[heads, rows, value_dim]` and LSE float32 `[heads, rows]` of one part."""
    rows, (_, heads, capacity, _) = len(part.query), part.key.shape
    starts = (part.slots * (heads * capacity) + part.first).int()
    used = part.used[:rows].int()
    out, lse = _kernel(
        part.query, _lanes(part.key), _lanes(part.value), ends, starts, used, capacity, scaling
    )
    # The kernel gives rows that see nothing an LSE of plus infinity.
    return out.transpose(0, 1), lse.masked_fill(part.used[:rows] == 0, -math.inf)


def _kernel(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, starts: Tensor, used: Tensor,
    longest: int, scaling: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Query `[rows, heads, dim]`, key and value `[entries, key_heads, dim]`; row r reads used[r]
    entries from starts[r] on, at most `longest`."""
    out, lse, *_ = torch.ops.aten._flash_attention_forward(
        query, key, value, ends, starts, 1, longest, 0.0, False, False, scale=scaling,
        seqused_k=used,
    )  # fmt: skip
    return out, lse


def _lanes(room: Tensor) -> Tensor:
    """A room `[slots, heads, capacity, dim]` as the kernel reads texts of any length: `[entries,
    heads, dim]`, where entry e + capacity of a head is entry e of the next one."""
    slots, heads, capacity, dim = room.shape
    entries = (slots * heads - heads + 1) * capacity
    return room.as_strided((entries, heads, dim), (dim, capacity * dim, 1))


def flash_serves(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether the kernel of a GPU serves query `[heads, n, d]` over `[key_heads, m, d]`."""
    if not varlen.can(query, key, value):
        return False
    return _tried(query.device, query.dtype, len(query), len(key), query.shape[-1])


@cache
def _tried(device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, dim: int) -> bool:
    """Whether the kernel does what its twin does for such heads, found by trying once."""
    return agrees(_flash, device, dtype, heads, key_heads, dim)


def agrees(
    kernel: object, device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, dim: int
) -> bool:
    """Whether a kernel, called as `_flash`, agrees with `masked`; where not, that is said."""
    assert callable(kernel)
    made = torch.Generator(device).manual_seed(0)
    rows, capacity = 3, 300
    ends = torch.arange(rows + 1, dtype=torch.int32, device=device)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=made, device=device).to(dtype)

    def numbers(*given: int) -> Tensor:
        return torch.tensor([*given, 0], device=device)

    near, far = (
        RoomPart(
            drawn(rows, heads, dim), drawn(4, key_heads, capacity, dim),
            drawn(4, key_heads, capacity, dim), numbers(2, 0, 3), numbers(*first), numbers(*used),
            False,
        )
        for first, used in (((5, 0, 17), (1, 300, 140)), ((0, 0, 0), (4, 0, 2)))
    )  # fmt: skip
    try:
        for parts in ([near], [near, far]):
            answers = [kernel(part, dim**-0.5, ends) for part in parts]
            out = answers[0][0] if len(answers) == 1 else merge(answers)[0]
            exact = masked(parts, dim**-0.5).transpose(0, 1).float()
            error = float((out.float() - exact).norm() / exact.norm())
            if not error < NEAR:
                raise RuntimeError(f"it differs from plain products by {error:.1%}")
    except Exception as error:
        say_once(
            f"the flash kernel of {device} does not serve rows of a batch in one call "
            f"({first_line(error)}); plain products do"
        )
        return False
    return True


__all__ = ["RoomPart", "agrees", "attend_rows", "flash_serves", "masked"]
