"""Blocks of queries, each over the keys before it that were chosen for it, and over itself.

The queries of a prompt are cut into blocks. What lies before a block is read where it was chosen;
the block itself is read in full, each query up to its own key. Chosen keys are copied side by side,
so what is multiplied is dense. Blocks that chose about as many share one call. The shorter ones are
filled up to the longest with keys that nobody sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.engine.kernels import flash
from lengthwise.engine.kernels.kernel import answer
from lengthwise.engine.kernels.merge import merge
from lengthwise.engine.kernels.part import Answer, Asked, Part
from lengthwise.engine.kernels.plain import plain as plain_attend

# Blocks share a call while the shortest chose at least this share of what the longest did.
ALIKE = 0.85


@dataclass(frozen=True)
class Blocks:
    """The last n of m tokens, in blocks of `size` queries; the last block may be shorter.

    query: `[heads, n, head_dim]`, rotated. key: `[key_heads, m, head_dim]`, rotated. value:
    `[key_heads, m, value_dim]`.
    chosen: of a key head gives bool `[heads of the group, blocks, keys]`, which keys each block
    reads; keys are those before the last block. What is not before the block itself is ignored.
    scaling, softcap, sinks: as in `Asked`.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    size: int
    chosen: Callable[[int], Tensor]
    scaling: float
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def count(self) -> int:
        """Blocks."""
        return -(-self.query.shape[1] // self.size)

    @property
    def start(self) -> int:
        """Keys before the first block."""
        return self.key.shape[1] - self.query.shape[1]

    def past(self, head: int) -> Tensor:
        """bool `[group, blocks, keys before the last block]`: what is read, of a key head."""
        last = self.start + (self.count - 1) * self.size
        keys = torch.arange(last, device=self.query.device)
        starts = torch.arange(self.start, last + 1, self.size, device=self.query.device)
        return self.chosen(head) & (keys < starts[:, None])


def attend(asked: Blocks) -> tuple[Tensor, int]:
    """Output `[heads, n, value_dim]`, and bytes of the most keys and values that were copied at a
    time."""
    heads, count, size = len(asked.query), asked.query.shape[1], asked.size
    short = asked.count * size - count
    query, key, value = (
        F.pad(x[:, x.shape[1] - count :], (0, 0, 0, short)).unflatten(1, (-1, size))
        for x in (asked.query, asked.key, asked.value)
    )
    group = heads // len(key)
    own = _rows(
        query.flatten(0, 1), key.repeat_interleave(group, 0).flatten(0, 1),
        value.repeat_interleave(group, 0).flatten(0, 1), None, asked,
    )  # fmt: skip
    found: list[Answer] = [
        (own[0].reshape(heads, -1, own[0].shape[-1]), _lse(own).reshape(heads, -1))
    ]
    copied = 0
    if asked.start or asked.count > 1:
        before, copied = _before(asked, query)
        found.append(before)
    out = merge(found, asked.sinks)[0]
    return out[:, :count], copied


def _before(asked: Blocks, query: Tensor) -> tuple[Answer, int]:
    """What blocks `[heads, blocks, size, head_dim]` read of keys before them, and bytes copied."""
    group, found, copied = len(query) // len(asked.key), [], 0
    for head, rows in enumerate(query.split(group)):
        past = asked.past(head)
        together = group > 1 and bool((past[1:] == past[0]).all())
        if together:
            # Heads that read alike are so many more queries of one block.
            rows, past = rows.transpose(0, 1).flatten(1, 2)[None], past[:1]
        out, lse, size = _of_head(asked, head, rows, past)
        if together:
            out, lse = (x[0].unflatten(1, (group, -1)).transpose(0, 1) for x in (out, lse))
        found.append((out, lse))
        copied = max(copied, size)
    outs, lses = (torch.cat(each).flatten(1, 2) for each in zip(*found, strict=True))
    return (outs, lses), copied


def _of_head(asked: Blocks, head: int, query: Tensor, past: Tensor) -> tuple[Tensor, Tensor, int]:
    """Queries `[r, blocks, q, head_dim]` over what past, bool `[r, blocks, keys]`, chooses of a key
    head: output, LSE `[r, blocks, q]`, and bytes copied at a time."""
    key, value, rows, copied = asked.key[head], asked.value[head], query.flatten(0, 1), 0
    out = value.new_zeros(*rows.shape[:2], value.shape[-1])
    lse = query.new_full(rows.shape[:2], -math.inf, dtype=torch.float32)
    for which, ids, seen in _alike(past.flatten(0, 1)):
        keys, values = (
            x.index_select(0, ids.flatten()).unflatten(0, ids.shape) for x in (key, value)
        )
        copied = max(copied, keys.nbytes + values.nbytes)
        part = _rows(rows[which], keys, values, seen, asked)
        out[which], lse[which] = part[0], _lse(part)
    return out.unflatten(0, query.shape[:2]), lse.unflatten(0, query.shape[:2]), copied


def _alike(past: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows `[r]` of bool `[rows, keys]` that chose about as many, the ids of their keys `[r, m]`,
    and bool `[r, m]`, which of these are meant. Rows without a key are left out."""
    counts, order = past.sum(1).sort(descending=True)
    sizes, at = counts.tolist(), 0
    keys = past[order].nonzero()[:, 1].split(sizes)
    while at < len(sizes) and sizes[at]:
        stop = at + 1
        while stop < len(sizes) and sizes[stop] >= ALIKE * sizes[at]:
            stop += 1
        seen = torch.arange(sizes[at], device=past.device) < counts[at:stop, None]
        ids = torch.zeros(seen.shape, dtype=torch.int64, device=past.device)
        ids[seen] = torch.cat(keys[at:stop])
        yield order[at:stop], ids, seen
        at = stop


def _rows(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, asked: Blocks) -> Answer:
    """Rows of queries `[r, size, head_dim]`, each over keys `[r, m, head_dim]` of its own: those
    seen, bool `[r, m]`, by all queries, or, where it is None, each query those up to its own."""
    if flash.can(query, value) and asked.softcap is None:
        bias = None
        if seen is not None:
            # One row for all queries: the kernel reads it again for each of them.
            bias = torch.zeros(seen.shape, dtype=query.dtype).masked_fill_(~seen, -math.inf)
            bias = bias[:, None, None]
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query[:, None], key[:, None], value[:, None], 0.0, seen is None, attn_mask=bias,
            scale=asked.scaling,
        )  # fmt: skip
        return out[:, 0], lse[:, 0].float()
    mask = None if seen is None else seen[:, None].expand(-1, query.shape[1], -1)
    part = Part(query, key, value, mask, causal=seen is None)
    return answer(Asked([part], asked.scaling, asked.softcap, None, True))


def _lse(found: Answer) -> Tensor:
    assert found[1] is not None
    return found[1]


def plain(asked: Blocks) -> Tensor:
    """The plain twin of `attend`: every score, masked. Output `[heads, n, value_dim]`."""
    queries, keys = asked.query.shape[1], asked.key.shape[1]
    place = torch.arange(queries, device=asked.query.device)
    mask = torch.zeros(len(asked.query), queries, keys, dtype=torch.bool, device=place.device)
    past = torch.cat([asked.past(head) for head in range(len(asked.key))])
    mask[:, :, : past.shape[-1]] = past.repeat_interleave(asked.size, 1)[:, :queries]
    own = (place[:, None] // asked.size == place // asked.size) & (place <= place[:, None])
    mask[:, :, asked.start :] |= own
    part = Part(asked.query, asked.key, asked.value, mask)
    return plain_attend(Asked([part], asked.scaling, asked.softcap, asked.sinks))[0]


__all__ = ["Blocks", "attend", "plain"]
