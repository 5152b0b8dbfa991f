"""The flash kernel of a GPU: causal at the bottom right, heads grouped natively, the LSE returned.

`torch.ops.aten._flash_attention_forward` is what PyTorch's own `varlen_attn` calls. It reads keys
where they lie, `[key_heads, keys, head_dim]` with room behind, without a copy for every query head.
A causal part needs no pieces here.
"""

from __future__ import annotations

from functools import cache, lru_cache

import torch
from torch import Tensor

from lengthwise.engine.kernels import tree
from lengthwise.engine.kernels.merge import part_by_part
from lengthwise.engine.kernels.part import Answer, Asked, Part

# What the kernel is built for.
LARGEST_HEAD = 256
STEP = 8
DTYPES = (torch.float16, torch.bfloat16)
# The first generation (Ampere) that it runs on.
CAPABILITY = 8


def can(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether the kernel can multiply these: on CUDA, in 16 bits, with heads of a size it knows."""
    size = query.shape[-1]
    return (
        query.is_cuda
        and query.dtype in DTYPES
        and key.dtype == query.dtype == value.dtype
        and size == value.shape[-1] <= LARGEST_HEAD
        and size % STEP == 0
        and key.stride(-1) == value.stride(-1) == 1
        and _capable(query.device)
    )


def serves(asked: Asked) -> bool:
    """Whether it can do a part; the others are left to Triton or plain products."""
    return asked.softcap is None and any(map(_serves, asked.parts))


def _serves(part: Part) -> bool:
    plain = part.mask is None and part.log_weight is None
    return plain and can(part.query, part.key, part.value)


def attend(asked: Asked) -> Answer:
    return part_by_part(_one, lambda part: [part], asked)


def _one(part: Part, scaling: float, softcap: float | None, need_lse: bool) -> Answer:
    if not _serves(part):
        return tree.one(part, scaling, softcap, need_lse)
    return flash(part.query, part.key, part.value, part.causal, scaling)


@cache
def _capable(device: torch.device) -> bool:
    """Whether this GPU and this build of PyTorch have the kernel: asked by running it once."""
    if torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] < CAPABILITY:
        return False
    one = torch.ones(1, 1, 64, dtype=torch.bfloat16, device=device)
    try:
        flash(one, one, one, False, 1.0)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


@lru_cache(maxsize=64)
def _ends(count: int, device: torch.device) -> Tensor:
    """[0, count], made where it is read: every step has another count, and a copy from the host
    would wait for the device."""
    return torch.arange(0, count + 1, count, dtype=torch.int32, device=device)


def flash(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, scaling: float
) -> tuple[Tensor, Tensor]:
    """query `[heads, n, d]`, key and value `[key_heads, m, d]`, n and m at least 1 -> output
    `[heads, n, d]` and LSE float32 `[heads, n]`. causal: query t sees keys 0..m - n + t."""
    queries, keys = query.shape[1], key.shape[1]
    out, lse, *_ = torch.ops.aten._flash_attention_forward(
        query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1),
        _ends(queries, query.device), _ends(keys, query.device), queries, keys, 0.0, causal, False,
        scale=scaling,
    )  # fmt: skip
    return out.transpose(0, 1), lse


def flash_rows(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scaling: float
) -> Tensor:
    """Prompts side by side, each causal over its own keys alone: query `[heads, n, d]`, key and
    value `[key_heads, n, d]` -> `[heads, n, d]`. ends: int32 `[prompts + 1]`, where they begin and
    end; longest: tokens of the longest."""
    out, *_ = torch.ops.aten._flash_attention_forward(
        query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1), ends, ends, longest,
        longest, 0.0, True, False, scale=scaling,
    )  # fmt: skip
    rows: Tensor = out.transpose(0, 1)
    return rows


__all__ = ["attend", "can", "flash", "flash_rows", "serves"]
