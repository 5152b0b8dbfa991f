"""FlexAttention of PyTorch, compiled for a GPU: masks, softcap and weights of keys within a kernel.

What is done to a score is written as a function of its place, which the compiler puts into the
kernel (Dong et al., "Flex Attention", arXiv:2412.05496). Sizes are symbols of what is compiled, so
that a cache may grow. The first call takes some seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from lengthwise.engine.kernels import compiled
from lengthwise.engine.kernels.merge import part_by_part
from lengthwise.engine.kernels.part import Answer, Asked, Part

NAME = "flex"
# Uncompiled it runs everywhere and holds all scores: for tests.
EAGER = False
DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# A score, its row of the batch, head, query and key -> the score in its place.
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def serves(asked: Asked) -> bool:
    return all(map(_serves, asked.parts))


def _serves(part: Part) -> bool:
    same = part.key.dtype == part.query.dtype == part.value.dtype
    there = EAGER or (part.query.is_cuda and compiled.installed())
    return same and there and part.query.dtype in DTYPES


def attend(asked: Asked) -> Answer:
    return part_by_part(_one, lambda part: [part], asked)


def _one(part: Part, scaling: float, softcap: float | None, need_lse: bool) -> Answer:
    heads, queries, _ = part.query.shape
    key_heads, keys, _ = part.key.shape
    out, found = _attention()(
        part.query[None], part.key[None], part.value[None], scale=scaling, **_wants_lse(),
        score_mod=_score_mod(part, softcap), enable_gqa=heads != key_heads,
        block_mask=_lower(queries, keys, part.query.device) if part.causal else None,
    )  # fmt: skip
    lse: Tensor = getattr(found, "lse", found)
    return out[0], lse[0].float()


@cache
def _wants_lse() -> dict[str, Any]:
    """How the LSE is asked for, which changed with torch 2.9."""
    from torch.nn.attention import flex_attention

    request = getattr(flex_attention, "AuxRequest", None)
    return {"return_lse": True} if request is None else {"return_aux": request(lse=True)}


def _score_mod(part: Part, softcap: float | None) -> ScoreMod | None:
    """Softcap, then the weight of a key, then the mask, as in `plain`."""
    group = part.query.shape[0] // part.key.shape[0]
    weight, mask = part.log_weight, part.mask
    if softcap is None and weight is None and mask is None:
        return None
    if mask is not None:
        mask = mask.expand(part.query.shape[0], part.query.shape[1], part.key.shape[1])

    # What is compiled has symbols for numbers, and none for those inside this function.
    cap = None if softcap is None else _number(softcap, part.query.device)

    def changed(score: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        if cap is not None:
            score = torch.tanh(score / cap) * cap
        if weight is not None:
            score = score + weight[head // group, key]
        if mask is not None:
            score = torch.where(mask[head, query, key], score, -float("inf"))
        return score

    return changed


@lru_cache(maxsize=8)
def _number(number: float, device: torch.device) -> Tensor:
    return torch.full((), number, device=device)


@lru_cache(maxsize=8)
def _lower(queries: int, keys: int, device: torch.device) -> Any:
    """The blocks that a causal part reads, made once for all layers."""
    from torch.nn.attention.flex_attention import create_block_mask

    # A number would be compiled in, and every chunk has another one.
    before = torch.full((), keys - queries, device=device)

    def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return key <= query + before

    return create_block_mask(seen, None, None, queries, keys, device=device.type)


def _attention() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    plain: Callable[..., Any] = flex_attention
    return plain if EAGER else _compiled()


@cache
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    # A graph that breaks would fall back to what holds all scores; so it fails instead.
    made: Callable[..., Any] = torch.compile(flex_attention, dynamic=True, fullgraph=True)
    return made


__all__ = ["NAME", "attend", "serves"]
