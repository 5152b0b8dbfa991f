"""Attention in Triton: trees and chunks under any mask, keys where they lie, the LSE returned.

Heads that share a key head are rows of one tile, so each key is read once for all of them. Keys are
split into spans, so that few heads fill a GPU as well. A mask may be of the last keys alone, as
that of a draft's tree is. Softcap and weights of keys are part of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.engine.kernels import products
from lengthwise.engine.kernels.attempts import attempt
from lengthwise.engine.kernels.compiled import (
    LARGEST_HEAD,
    Grid,
    flat,
    in_spans,
    programs,
    runs,
    width,
)  # fmt: skip
from lengthwise.engine.kernels.merge import part_by_part
from lengthwise.engine.kernels.part import Answer, Asked, Part
from lengthwise.engine.kernels.plain import plain

NAME = "triton"


def can(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether Triton runs there, and has products of these."""
    same = key.dtype == query.dtype == value.dtype
    return (
        same
        and value.shape[-1] <= LARGEST_HEAD
        and runs(query.device.type, query.dtype, query.shape[-1])
    )


def serves(asked: Asked) -> bool:
    return all(map(_serves, asked.parts))


def _serves(part: Part) -> bool:
    return can(part.query, part.key, part.value)


def attend(asked: Asked) -> Answer:
    return part_by_part(_one, lambda part: [part], asked)


def _one(part: Part, scaling: float, softcap: float | None, need_lse: bool) -> Answer:
    return attend_spans(
        part.query, part.key, part.value, scaling, softcap, mask=part.mask, causal=part.causal,
        log_weight=part.log_weight,
    )  # fmt: skip


def one(part: Part, scaling: float, softcap: float | None, need_lse: bool) -> Answer:
    """One part, for the kernels that cannot do it: here where that works, else by products."""
    found = None
    if _serves(part):
        found = attempt(
            NAME, part.query, part.key, lambda: _one(part, scaling, softcap, need_lse),
            lambda: plain(Asked([part], scaling, softcap, need_lse=True)),
        )  # fmt: skip
    return products.one(part, scaling, softcap, need_lse) if found is None else found


def attend_spans(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    softcap: float | None = None,
    *,
    mask: Tensor | None = None,
    hidden: Tensor | None = None,
    causal: bool = False,
    log_weight: Tensor | None = None,
    ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """query `[heads, n, d]` over key and value `[key_heads, m, ...]` -> output `[heads, n,
    value_dim]` and LSE float32 `[heads, n]`; a row that sees nothing has 0 and -inf.

    mask, causal and log_weight are those of a `Part`. hidden: bool `[n, c]`, True where a query
    must not look at the last c keys. ids: int `[m']`, `[key_heads, m']` or `[heads, m']`, the
    keys that are read; a mask is then of them.
    """
    query, key, value = flat(query), flat(key), flat(value)
    heads, queries, size = query.shape
    key_heads, keys = key.shape[:2]
    group, share = heads // key_heads, 1
    if ids is not None:
        ids = flat(ids if ids.dim() == 2 else ids[None])
        keys = ids.shape[1]
        if len(ids) == heads != key_heads:
            group, share = 1, group
    grid = Grid.of(group * queries, keys, heads // group, query.device)
    bits, first = _mask(mask, hidden, heads, queries, keys)
    weight = None if log_weight is None else flat(log_weight.expand(key_heads, -1))
    # What is not asked for is a pointer that is never followed.
    given = [query if t is None else t for t in (bits, weight, ids)]
    strides = (0, 0, 0) if bits is None else bits.stride()

    def run(out: Tensor, lse: Tensor) -> None:
        programs().attend_span[grid.programs](
            query, key, value, *given, out, lse, scaling, softcap or 1.0,
            heads, queries, keys, grid.span, first, grid.bucket,
            *query.stride()[:2], *key.stride()[:2], *value.stride()[:2], *strides,
            0 if weight is None else weight.stride(0),
            0 if ids is None or len(ids) == 1 else ids.stride(0),
            FOLD=group, SHARE=share, DIM=size, VALUE=value.shape[-1], ROWS=grid.rows,
            D=width(size), V=width(value.shape[-1]), CAUSAL=causal, MASKED=bits is not None,
            HIDDEN=int(hidden is not None), WEIGHTED=weight is not None, CHOSEN=ids is not None,
            CAPPED=softcap is not None,
        )  # fmt: skip

    return in_spans(heads, queries, value.shape[-1], value.dtype, grid, query.device, run)


def _mask(
    mask: Tensor | None, hidden: Tensor | None, heads: int, queries: int, keys: int
) -> tuple[Tensor | None, int]:
    """Bytes `[heads, queries, columns]` without copies, and the key of the first column."""
    if hidden is not None:
        columns = hidden.shape[-1]
        return hidden.expand(heads, queries, columns).view(torch.uint8), keys - columns
    if mask is None:
        return None, 0
    return mask.expand(heads, queries, keys).view(torch.uint8), 0


__all__ = ["NAME", "attend", "attend_spans", "can", "one", "serves"]
