"""Attention in Triton of heads that keep unequal numbers of keys, all of them in one call.

Some heads of a layer keep every token and others few, in stores of their own. The kernel gets a
table of addresses: for each key head the pieces of memory that its keys lie in, cut into spans. A
head with fewer spans than others has empty ones. They are joined as those of `tree` are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lengthwise.engine.kernels.attempts import attempt, works
from lengthwise.engine.kernels.choice import chosen
from lengthwise.engine.kernels.compiled import Grid, flat, in_spans, programs, runs, width
from lengthwise.engine.kernels.part import Answer, Asked, Part
from lengthwise.engine.kernels.plain import plain

NAME = "ragged"
# Bytes that memory is aligned to, as the program is told.
ALIGNED = 16


@dataclass(frozen=True)
class Piece:
    """Keys of some heads, all visible to every query.

    heads: which key heads of the layer. key `[h, keys, head_dim]`, value `[h, keys, value_dim]`,
    log_weight float32 `[h, keys]` or None: as in `Part`, for these heads.
    """

    heads: Sequence[int]
    key: Tensor
    value: Tensor
    log_weight: Tensor | None = None


def can(query: Tensor, pieces: Sequence[Piece]) -> bool:
    """Whether Triton runs there, and every entry is one run of aligned memory."""
    size = max(query.shape[-1], pieces[0].value.shape[-1])
    return runs(query.device.type, query.dtype, size) and all(
        t.dtype == query.dtype and _rows(t) for piece in pieces for t in (piece.key, piece.value)
    )


def _rows(t: Tensor) -> bool:
    """Whether entries `[h, keys, size]` follow each other without gaps, from aligned addresses."""
    size = t.shape[-1]
    dense = t.stride(-1) == 1 and (t.stride(1) == size or t.shape[1] == 1)
    return dense and (size * t.itemsize) % ALIGNED == 0 == t.data_ptr() % ALIGNED


def serves(query: Tensor, pieces: Sequence[Piece]) -> bool:
    """Whether heads are to be attended to together here, and that has not failed."""
    key = max(pieces, key=lambda piece: piece.key.shape[1]).key
    return chosen("groups", query, key) == NAME and works(NAME, query, key) and can(query, pieces)


def attend(
    query: Tensor, pieces: Sequence[Piece], scaling: float, softcap: float | None = None
) -> Answer | None:
    """query `[heads, n, head_dim]` over pieces that hold keys for every head -> output and LSE;
    None where that fails here."""
    key = max(pieces, key=lambda piece: piece.key.shape[1]).key
    return attempt(
        NAME, query, key, lambda: run(query, pieces, scaling, softcap),
        lambda: by_head(query, pieces, scaling, softcap),
    )  # fmt: skip


def by_head(
    query: Tensor, pieces: Sequence[Piece], scaling: float, softcap: float | None = None
) -> tuple[Tensor, Tensor]:
    """The plain twin: one key head after another, over its own pieces."""
    key_heads = 1 + max(max(piece.heads) for piece in pieces)
    answers = []
    for head, own in enumerate(query.chunk(key_heads)):
        held = [(piece, list(piece.heads).index(head)) for piece in pieces if head in piece.heads]
        parts = [
            Part(own, piece.key[row : row + 1], piece.value[row : row + 1],
                 log_weight=None if piece.log_weight is None else piece.log_weight[row : row + 1])
            for piece, row in held if piece.key.shape[1]
        ]  # fmt: skip
        answers.append(plain(Asked(parts, scaling, softcap, need_lse=True)))
    outs, lses = zip(*answers, strict=True)
    return torch.cat(outs), torch.cat(lses)


def run(
    query: Tensor, pieces: Sequence[Piece], scaling: float, softcap: float | None = None
) -> Answer:
    """`attend`, which raises what it raises."""
    query = flat(query)
    heads, queries, size = query.shape
    key_heads = 1 + max(max(piece.heads) for piece in pieces)
    group, value_dim = heads // key_heads, pieces[0].value.shape[-1]
    longest = max(piece.key.shape[1] for piece in pieces)
    whole = Grid.of(group * queries, longest, key_heads, query.device)
    spans = _spans(pieces, key_heads, whole.span)
    slots = max(map(len, spans))
    grid = Grid(whole.rows, (whole.programs[0], slots, key_heads), whole.span)
    rows = [span for each in spans for span in [*each, *[(0, 0, 0, 0)] * (slots - len(each))]]
    table = torch.tensor(rows, dtype=torch.int64).to(query.device, non_blocking=True)

    def fill(out: Tensor, lse: Tensor) -> None:
        programs().attend_ragged[grid.programs](
            query, table, out, lse, scaling, softcap or 1.0, heads, queries, slots, grid.bucket,
            *query.stride()[:2], FOLD=group, DIM=size, VALUE=value_dim, ROWS=grid.rows,
            D=width(size), V=width(value_dim), CAPPED=softcap is not None,
        )  # fmt: skip

    return in_spans(heads, queries, value_dim, query.dtype, grid, query.device, fill)


def _spans(
    pieces: Sequence[Piece], key_heads: int, span: int
) -> list[list[tuple[int, int, int, int]]]:
    """By key head: addresses of the keys, values and weights of a span (0: none), and its keys."""
    found: list[list[tuple[int, int, int, int]]] = [[] for _ in range(key_heads)]
    for piece in pieces:
        tensors = piece.key, piece.value, piece.log_weight
        for row, head in enumerate(piece.heads):
            for start in range(0, piece.key.shape[1], span):
                key, value, weight = (0 if t is None else _address(t, row, start) for t in tensors)
                found[head].append((key, value, weight, min(span, piece.key.shape[1] - start)))
    return found


def _address(t: Tensor, row: int, start: int) -> int:
    return t.data_ptr() + (row * t.stride(0) + start * t.stride(1)) * t.itemsize


__all__ = ["NAME", "Piece", "attend", "can", "run", "serves"]
