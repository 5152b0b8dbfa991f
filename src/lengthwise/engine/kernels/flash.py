"""The CPU's flash kernel, which also returns the log-sum-exp.

`torch.ops.aten._scaled_dot_product_flash_attention_for_cpu` is what PyTorch's own SDPA calls on a
CPU. It knows square causal masks and one mask for all heads, and wants a key head for every query
head. Where all keys are visible, the heads of a group are so many more queries of one key head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lengthwise.engine.kernels import products
from lengthwise.engine.kernels.merge import part_by_part, square
from lengthwise.engine.kernels.part import Answer, Asked, Part, repeat_heads

DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def can(query: Tensor, value: Tensor) -> bool:
    """Whether the kernel takes such queries and values."""
    return (
        query.device.type == "cpu" and query.dtype in DTYPES and query.shape[-1] == value.shape[-1]
    )


def serves(asked: Asked) -> bool:
    """Whether it can do a part; the others are left to plain products."""
    return asked.softcap is None and any(map(_serves, asked.parts))


def _serves(part: Part) -> bool:
    return (
        can(part.query, part.value)
        and part.log_weight is None
        and (part.mask is None or part.mask.dim() == 2)
    )


def attend(asked: Asked) -> Answer:
    return part_by_part(_one, square, asked)


def _one(part: Part, scaling: float, softcap: float | None, need_lse: bool) -> Answer:
    if not _serves(part):
        return products.one(part, scaling, softcap, need_lse)
    heads, queries, head_dim = part.query.shape
    if part.mask is None and not part.causal:
        folded = part.query.reshape(part.key.shape[0], -1, head_dim)
        out, lse = flash(folded, part.key, part.value, None, False, scaling)
        return out.reshape(heads, queries, -1), lse.reshape(heads, queries)
    key, value = repeat_heads(part.key, heads), repeat_heads(part.value, heads)
    return flash(part.query, key, value, part.mask, part.causal, scaling)


def flash(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scaling: float
) -> tuple[Tensor, Tensor]:
    """query `[heads, n, d]`, key and value `[heads, m, d]`, mask bool `[n, m]` -> output
    `[heads, n, d]` and LSE float32 `[heads, n]`. A row that sees nothing has LSE -inf."""
    bias = None
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
        bias = bias.masked_fill_(~mask, -math.inf)[None, None]
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query[None], key[None], value[None], 0.0, causal, attn_mask=bias, scale=scaling
    )
    out, lse = out[0], lse[0].float()
    if mask is not None:
        blind = ~mask.any(-1)
        lse = lse.masked_fill(blind, -math.inf)
        out = out.masked_fill(blind[:, None], 0.0)
    return out, lse


__all__ = ["attend", "can", "flash", "serves"]
