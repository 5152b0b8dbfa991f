"""Few queries a row over rooms, of which it is read on the device how much is in use.

Shapes are static, so that calls can be captured as a CUDA graph and replayed while rows grow. On a
GPU the flash kernel reads all rows in one call; `masked` is the plain twin and serves elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from lengthwise._utils.messages import first_line
from lengthwise._utils.saying import say_once
from lengthwise.engine.kernels import varlen
from lengthwise.engine.kernels.merge import merge
from lengthwise.engine.kernels.part import Answer

# Largest share by which the kernel may differ from its twin where it is tried.
NEAR = 2e-2


@dataclass(frozen=True)
class RoomPart:
    """Keys that all queries of a row see in memory that holds those of all rows.

    query: `[rows, nodes, heads, head_dim]`, rotated for this part.
    key, value: `[entries, key_heads, dim]`; capacity: the most that belong to a row, all of them
        where there is one row.
    starts, first, used: int64 `[rows + 1]`, what lies at the end being 0. Row r starts at entry
        starts[r], and sees the used[r] entries from its first[r]-th on; one at least of some part.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    capacity: int
    starts: Tensor
    first: Tensor
    used: Tensor


@dataclass(frozen=True)
class OwnPart:
    """What the nodes of a row's tree see of each other.

    query: `[rows, nodes, heads, head_dim]`; key, value: `[rows, nodes, key_heads, dim]`.
    visible: bool `[rows, nodes, nodes]`; every node sees one at least.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    visible: Tensor


def attend_rows(
    parts: Sequence[RoomPart], own: OwnPart | None, scaling: float, ends: Tensor,
    flash: bool = False,
) -> Tensor:  # fmt: skip
    """One softmax a query over what it sees of all parts: `[rows, nodes, heads, value_dim]`.

    ends: int32 `[rows + 1]`, 0, nodes, 2 nodes, ... flash: rooms by the kernel of a GPU (see
    `flash_serves`).
    """
    if not flash:
        return masked(parts, own, scaling)
    answers = [_flash(part, scaling, ends) for part in parts]
    if own is not None:
        answers.append(_among(own, scaling))
    out = answers[0][0] if len(answers) == 1 else merge(answers)[0]
    rows, nodes = parts[0].query.shape[:2]
    return out.transpose(0, 1).reshape(rows, nodes, out.shape[0], out.shape[2])


def masked(parts: Sequence[RoomPart], own: OwnPart | None, scaling: float) -> Tensor:
    """The plain twin: scores of all that is allocated, those of other entries masked."""
    scores, values = [], []
    rows, nodes, heads, _ = parts[0].query.shape
    for part in parts:
        at = torch.arange(part.capacity, device=part.key.device)
        first, used = part.first[:rows, None], part.used[:rows, None]
        hidden = (at < first) | (at >= first + used)
        key, value = part.key[None], part.value[None]
        if rows > 1:
            there = (part.starts[:rows, None] + at).clamp_max(len(part.key) - 1)
            key, value = part.key[there], part.value[there]
        products = _folded(part.query, scaling, key.shape[2]) @ key.permute(0, 2, 3, 1)
        scores.append(products.masked_fill(hidden[:, None, None], -math.inf))
        # What lies in spare room may be no number, which times 0 is none either.
        values.append(value.masked_fill(hidden[..., None, None], 0).transpose(1, 2))
    if own is not None:
        scores.append(_scores_among(own, scaling))
        values.append(own.value.transpose(1, 2))
    weights = torch.softmax(torch.cat(scores, -1), -1, dtype=torch.float32).to(values[0].dtype)
    each = weights.split([value.shape[2] for value in values], -1)
    out: Tensor = each[0] @ values[0]
    for weight, value in zip(each[1:], values[1:], strict=True):
        out = out + weight @ value
    return out.reshape(rows, heads, nodes, -1).transpose(1, 2)


def _folded(query: Tensor, scaling: float, key_heads: int) -> Tensor:
    """Queries as so many rows of a key head: `[rows, key_heads, heads of a group * nodes, dim]`."""
    rows, _, _, dim = query.shape
    return (query * scaling).transpose(1, 2).reshape(rows, key_heads, -1, dim)


def _scores_among(own: OwnPart, scaling: float) -> Tensor:
    """Masked scores of nodes for each other: `[rows, key_heads, heads of a group * nodes,
    nodes]`."""
    rows, nodes, key_heads, _ = own.key.shape
    scores = _folded(own.query, scaling, key_heads) @ own.key.permute(0, 2, 3, 1)
    apart = scores.view(rows, key_heads, -1, nodes, nodes)
    return apart.masked_fill(~own.visible[:, None, None], -math.inf).view(scores.shape)


def _among(own: OwnPart, scaling: float) -> Answer:
    """Output `[heads, rows * nodes, value_dim]` and LSE `[heads, rows * nodes]` of the own part."""
    heads = own.query.shape[2]
    scores = _scores_among(own, scaling).float()
    lse = torch.logsumexp(scores, -1)
    out = torch.exp(scores - lse[..., None]).to(own.value.dtype) @ own.value.transpose(1, 2)
    rows, nodes = own.query.shape[:2]
    by_head = out.reshape(rows, heads, nodes, -1).transpose(0, 1)
    return by_head.flatten(1, 2), lse.reshape(rows, heads, nodes).transpose(0, 1).flatten(1)


def _flash(part: RoomPart, scaling: float, ends: Tensor) -> Answer:
    """Output `[heads, rows * nodes, value_dim]` and LSE float32 `[heads, rows * nodes]`."""
    rows, nodes = part.query.shape[:2]
    used = part.used[:rows].int()
    out, lse = _kernel(
        part.query.flatten(0, 1), part.key, part.value, ends, (part.starts + part.first).int(),
        used, (nodes, part.capacity), scaling,
    )  # fmt: skip
    # The kernel gives rows that see nothing an LSE of plus infinity.
    blind = (used == 0)[:, None].expand(-1, nodes).reshape(-1)
    return out.transpose(0, 1), lse.masked_fill(blind, -math.inf)


def _kernel(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, starts: Tensor, used: Tensor,
    longest: tuple[int, int], scaling: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Query `[queries, heads, dim]`, key and value `[entries, key_heads, dim]`: the queries from
    ends[r] to ends[r + 1] - 1 read used[r] entries from starts[r] on. longest: the most of both."""
    out, lse, *_ = torch.ops.aten._flash_attention_forward(
        query, key, value, ends, starts, *longest, 0.0, False, False, scale=scaling, seqused_k=used
    )
    return out, lse


def flash_serves(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether the kernel of a GPU serves query `[heads, n, d]` over `[key_heads, m, d]`."""
    if not varlen.can(query, key, value):
        return False
    return _tried(query.device, query.dtype, len(query), len(key), query.shape[-1])


@cache
def _tried(device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, dim: int) -> bool:
    """Whether the kernel does what its twin does for such heads, found by trying once."""
    return agrees(device, dtype, heads, key_heads, dim)


def agrees(device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, dim: int) -> bool:
    """Whether `attend_rows` by the kernel agrees with `masked`; where not, that is said."""
    made = torch.Generator(device).manual_seed(0)
    rows, capacity, scaling = 3, 3000, dim**-0.5

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=made, device=device).to(dtype)

    def numbers(*given: int) -> Tensor:
        return torch.tensor([*given, 0], device=device)

    try:
        for nodes, places in ((1, 1), (1, 2), (4, 1)):
            room = partial(drawn, 3 * capacity, key_heads, dim)
            lines = [((5, 0, 17), (1, 3000, 1400)), ((0, 0, 0), (4, 0, 2))]
            parts = [
                RoomPart(drawn(rows, nodes, heads, dim), room(), room(), capacity,
                         numbers(capacity, 0, 2 * capacity), numbers(*first), numbers(*used))
                for first, used in lines[:places]
            ]  # fmt: skip
            own: OwnPart | None = None
            if nodes > 1:
                visible = torch.ones(rows, nodes, nodes, dtype=torch.bool, device=device).tril()
                key, value = (drawn(rows, nodes, key_heads, dim) for _ in range(2))
                own = OwnPart(parts[0].query, key, value, visible)
            ends = torch.arange(rows + 1, dtype=torch.int32, device=device) * nodes
            found = attend_rows(parts, own, scaling, ends, flash=True).float()
            exact = masked(parts, own, scaling).float()
            error = float((found - exact).norm() / exact.norm())
            if not error < NEAR:
                raise RuntimeError(f"it differs from plain products by {error:.1%}")
    except Exception as error:
        say_once(
            f"the flash kernel of {device} does not serve rows of a batch in one call "
            f"({first_line(error)}); plain products do"
        )
        return False
    return True


__all__ = ["OwnPart", "RoomPart", "agrees", "attend_rows", "flash_serves", "masked"]
