"""One softmax over the joined scores of all parts, a few queries at a time.

A block of scores stays in cache between its products and its softmax, and parts need no merging.
Sinks are one more column. Scores are held in the dtype of the queries. Over many keys the block
would be a few queries high and its products slow: then tiles of keys are read in turn and merged by
their log-sum-exp.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lengthwise.engine.kernels.merge import joined
from lengthwise.engine.kernels.part import Answer, Asked, Part, repeat_heads
from lengthwise.engine.kernels.products import row_products

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
# Scores held at a time: a few megabytes, which stay in the last cache of the processors we know.
ROW_BLOCK = 1 << 21
LEAST_ROWS = 16
# Keys of a causal block are taken up to a multiple of this. oneDNN prepares itself anew for every
# number of keys, with a larger buffer each time, whose pages cost more than the product.
KEY_STEP = 256
# Keys of a tile, and as many as are still read in one.
KEY_TILE = 2048
MOST_KEYS = 4096
# Weights among which one is looked for that tells the LSE.
FEW = 64


def serves(asked: Asked) -> bool:
    query = asked.parts[0].query
    return query.device.type == "cpu" and query.dtype in DTYPES


def attend(asked: Asked) -> Answer:
    tiles, rest = _tiles(asked.parts)
    if not tiles:
        return _whole(asked)
    each = replace(asked, sinks=None, need_lse=True)
    results = [_whole(replace(each, parts=[_by_channel(tile)])) for tile in tiles]
    return joined([*results, _whole(replace(each, parts=rest))], asked)


def _tiles(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """Tiles of keys that every query sees, and the rest, of which every query sees a key too."""
    tiles: list[Part] = []
    rest = list(parts)
    count = sum(part.key.shape[1] for part in parts)
    if parts[0].query.shape[1] <= LEAST_ROWS:
        return tiles, rest
    for at, part in enumerate(parts):
        before = part.key.shape[1] - (part.query.shape[1] if part.causal else 0)
        start = 0
        while part.mask is None and count > MOST_KEYS and before - start > KEY_TILE:
            tiles.append(part.keys(slice(start, start + KEY_TILE)))
            start, count = start + KEY_TILE, count - KEY_TILE
        if start:
            rest[at] = replace(part.keys(slice(start, None)), causal=part.causal)
    return tiles, rest


def _by_channel(part: Part) -> Part:
    """With keys that lie channel by channel, by which many queries are multiplied faster."""
    return replace(part, key=part.key.mT.contiguous().mT)


def _whole(asked: Asked) -> Answer:
    """In one softmax."""
    parts = asked.parts
    heads, queries, _ = parts[0].query.shape
    keys = sum(part.key.shape[1] for part in parts)
    step = max(LEAST_ROWS, min(ROW_BLOCK // (heads * keys), queries))
    outs, lses = [], []
    for start in range(0, queries, step):
        out, lse = _rows(asked, slice(start, min(start + step, queries)))
        outs.append(out)
        if lse is not None:
            lses.append(lse)
    out = outs[0] if len(outs) == 1 else torch.cat(outs, 1)
    return out, torch.cat(lses, 1) if lses else None


def _rows(asked: Asked, rows: slice) -> Answer:
    """Some of the queries."""
    parts = asked.parts
    scores = [_row_scores(part, rows, asked.scaling, asked.softcap) for part in parts]
    widths = [score.shape[-1] for score in scores]
    heads, count, _ = scores[0].shape
    if asked.sinks is not None:
        sinks = asked.sinks.to(scores[0].dtype)
        scores.append(sinks[:, None, None].expand(-1, count, 1))
    row = torch.cat(scores, -1) if len(scores) > 1 else scores[0]
    weights = torch.softmax(row, -1)
    lse = _lse(row, weights) if asked.need_lse else None
    apart = weights.split([*widths, row.shape[-1] - sum(widths)], -1)
    out: Tensor | None = None
    for part, weight in zip(parts, apart, strict=False):
        key_heads, width = part.key.shape[0], weight.shape[-1]
        value = torch.bmm(weight.reshape(key_heads, -1, width), part.value[:, :width])
        out = value if out is None else out.view_as(value).add_(value)
        out = out.view(heads, count, -1)
    assert out is not None
    return out, lse


def _lse(scores: Tensor, weights: Tensor) -> Tensor:
    """From one weight of each row, which is exp(score - LSE), without a second pass over all of
    them. It is one that did not underflow."""
    top, at = weights[..., :FEW].max(-1)
    if top.min() < torch.finfo(weights.dtype).tiny:
        top, at = weights.max(-1)
    return scores.gather(-1, at[..., None])[..., 0].float() - top.float().log()


def _row_scores(part: Part, rows: slice, scaling: float, softcap: float | None) -> Tensor:
    """Masked logits of some queries of a part, `[heads, rows, keys]` in the dtype of the
    queries."""
    heads, count = part.query.shape[0], rows.stop - rows.start
    before = part.key.shape[1] - part.query.shape[1]
    end = -(-(before + rows.stop) // KEY_STEP) * KEY_STEP
    key = part.key[:, :end] if part.causal else part.key
    query = (part.query[:, rows] * scaling).reshape(part.key.shape[0], -1, part.query.shape[-1])
    scores = row_products(query, key).view(heads, count, -1)
    if softcap is not None or part.log_weight is not None:
        weight = None if part.log_weight is None else repeat_heads(part.log_weight, heads)
        weight = None if weight is None else weight[:, : key.shape[1]]
        exact = scores.float()
        if softcap is not None:
            exact = exact.div_(softcap).tanh_().mul_(softcap)
        scores = (exact if weight is None else exact.add_(weight[:, None])).to(scores.dtype)
    if part.causal:
        own = scores[..., before + rows.start :]
        hidden = torch.ones(own.shape[1:], dtype=torch.bool, device=scores.device).triu_(1)
        own.masked_fill_(hidden, -math.inf)
    elif part.mask is not None:
        scores.masked_fill_(~part.mask[..., rows, :], -math.inf)
    return scores


__all__ = ["attend", "serves"]
