"""What all selections share: how many tokens a query reads, and where the far keys lie.

A selection's budget counts everything a query reads, its window and first tokens included, so that
one number compares methods. It deletes nothing: bytes held stay those of full attention.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.engine.entries import Segment
from lengthwise.errors import RecipeError
from lengthwise.methods.budget import Budget


def check_budget(name: str, budget: Budget, always: int, least: int) -> None:
    """Raises RecipeError where a budget leaves fewer than `least` tokens to choose.

    always: tokens that are read in any case. A share is resolved while running and then chooses at
    least `least` tokens.
    """
    if budget.unit not in ("tokens", "%"):
        raise RecipeError(
            f"{name}(budget={budget}): a selection reads less and holds everything, so allowed are "
            "tokens (2048) or a share (25%)"
        )
    if budget.unit == "tokens" and budget.tokens(0, 1.0) < always + least:
        raise RecipeError(
            f"{name}(budget={budget}): {always} tokens are read in any case and at least {least} "
            f"must be left to choose; give budget={always + least} or more, or a smaller window"
        )


def chosen_tokens(budget: Budget, always: int, least: int, index: Tensor) -> int:
    """Far tokens that a block of queries with birth ids index `[n]` may choose."""
    length = int(index[-1]) + 1 if budget.unit == "%" else 0
    return max(least, budget.tokens(length, 1.0) - always)


def far_keys(far: Segment) -> Tensor:
    """Keys `[kv_heads, n, head_dim]` of the far segment as they are stored (decoded if encoded)."""
    blocks = far.blocks()
    return blocks[0].key if len(blocks) == 1 else torch.cat([block.key for block in blocks], 1)


def by_key_head(query: Tensor, kv_heads: int) -> Tensor:
    """Queries `[heads, n, head_dim]` -> `[kv_heads, group * n, head_dim]`."""
    return query.reshape(kv_heads, -1, query.shape[-1])


__all__ = ["by_key_head", "check_budget", "chosen_tokens", "far_keys"]
