"""Plain products: for every part, on every device, in every dtype.

Scores of a block of rows are written out, in float32 where something is added to them, and
multiplied by the values.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lengthwise.engine.kernels.choice import chosen
from lengthwise.engine.kernels.merge import part_by_part, square
from lengthwise.engine.kernels.part import Answer, Asked, Part

# Scores are materialised at most this many numbers at a time.
SCORE_BLOCK = 1 << 24


def serves(asked: Asked) -> bool:
    return True


def attend(asked: Asked) -> Answer:
    return part_by_part(_one, square, asked)


def one(part: Part, scaling: float, softcap: float | None, need_lse: bool) -> Answer:
    """One part, for the kernels that cannot do it."""
    return attend(Asked([part], scaling, softcap, None, need_lse))


def _one(part: Part, scaling: float, softcap: float | None, need_lse: bool) -> Answer:
    heads, queries, head_dim = part.query.shape
    key_heads = part.key.shape[0]
    groups = heads // key_heads
    folded = part.query.reshape(key_heads, groups * queries, head_dim)
    mask = part.mask
    if part.causal:
        mask = torch.ones(queries, queries, dtype=torch.bool, device=part.query.device).tril_()
    if mask is not None:
        if mask.dim() == 2 or mask.shape[0] == 1:
            mask = mask.reshape(1, 1, queries, -1).expand(key_heads, groups, -1, -1)
        mask = mask.reshape(key_heads, groups * queries, -1)
    out, lse = _products(folded, part, mask, scaling, softcap, need_lse)
    out = out.reshape(heads, queries, -1)
    return out, None if lse is None else lse.reshape(heads, queries)


def _products(
    folded: Tensor,
    part: Part,
    mask: Tensor | None,
    scaling: float,
    softcap: float | None,
    need_lse: bool,
) -> Answer:
    """In blocks of rows, so that scores stay within SCORE_BLOCK numbers."""
    key_heads, rows, _ = folded.shape
    step = max(1, SCORE_BLOCK // max(1, key_heads * part.key.shape[1]))
    if not need_lse and softcap is None and part.log_weight is None and rows <= step:
        return one_softmax(folded, part.key, part.value, scaling, mask), None
    outs, lses = [], []
    for start in range(0, rows, step):
        scores = row_products(folded[:, start : start + step], part.key).float()
        scores = _adjust(scores.mul_(scaling), part, softcap)
        if mask is not None:
            scores = scores.masked_fill_(~mask[:, start : start + step], -math.inf)
        top = scores.amax(-1, keepdim=True)
        if mask is not None:
            top = top.clamp_min(torch.finfo(torch.float32).min)
        scores = scores.sub_(top).exp_()
        total = scores.sum(-1, keepdim=True)
        out = torch.matmul(scores.to(part.value.dtype), part.value)
        # Dividing after the product keeps the probabilities at full precision in bf16.
        outs.append(out.div_(total.clamp_min(1e-30).to(out.dtype)))
        lses.append((total.log() + top).squeeze(-1))
    if len(outs) == 1:
        return outs[0], lses[0]
    return torch.cat(outs, 1), torch.cat(lses, 1)


def _adjust(scores: Tensor, part: Part, softcap: float | None) -> Tensor:
    if softcap is not None:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    if part.log_weight is not None:
        scores = scores.add_(part.log_weight[:, None])
    return scores


def one_softmax(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, mask: Tensor | None = None
) -> Tensor:
    """Rows `[key_heads, rows, head_dim]` that see all keys but those masked, in the fewest calls:
    `[key_heads, rows, value_dim]`. Every row must see a key."""
    scores = row_products(query * scaling, key)
    if mask is not None:
        scores = scores.masked_fill_(~mask, -math.inf)
    weights = torch.softmax(scores, -1, dtype=torch.float32)
    return value_products(weights.to(value.dtype), value)


def row_products(rows: Tensor, key: Tensor) -> Tensor:
    """Products of rows `[key_heads, rows, head_dim]` with keys: `[key_heads, rows, keys]`."""
    return PRODUCTS[chosen("scores", rows, key)](rows, key)


def wide(rows: Tensor, key: Tensor) -> Tensor:
    """One batched product, keys transposed."""
    return torch.bmm(rows, key.transpose(1, 2))


def narrow(rows: Tensor, key: Tensor) -> Tensor:
    """Keys times rows: a few rows are the narrow side of the product."""
    return torch.bmm(key, rows.transpose(1, 2)).transpose(1, 2).contiguous()


def by_head(rows: Tensor, key: Tensor) -> Tensor:
    """One product a head, which reads keys in place where a batched one would copy them."""
    out = rows.new_empty(rows.shape[0], rows.shape[1], key.shape[1])
    for head in range(len(rows)):
        torch.mm(rows[head], key[head].t(), out=out[head])
    return out


def value_products(weights: Tensor, value: Tensor) -> Tensor:
    """Weights `[key_heads, rows, keys]` times values: `[key_heads, rows, value_dim]`."""
    return VALUE_PRODUCTS[chosen("values", weights, value)](weights, value)


def sums_by_head(weights: Tensor, value: Tensor) -> Tensor:
    """One product a head: a batched one would copy all values of a cache with room behind them."""
    out = value.new_empty(*weights.shape[:2], value.shape[2])
    for head in range(len(weights)):
        torch.mm(weights[head], value[head], out=out[head])
    return out


Product = Callable[[Tensor, Tensor], Tensor]
PRODUCTS: dict[str, Product] = {"wide": wide, "narrow": narrow, "by_head": by_head}
VALUE_PRODUCTS: dict[str, Product] = {"wide": torch.bmm, "by_head": sums_by_head}

__all__ = [
    "PRODUCTS", "SCORE_BLOCK", "VALUE_PRODUCTS", "attend", "one", "one_softmax", "row_products",
    "serves", "value_products",
]  # fmt: skip
