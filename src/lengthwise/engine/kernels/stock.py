"""`scaled_dot_product_attention`, which chooses among PyTorch's kernels and returns no LSE."""

from __future__ import annotations

import torch.nn.functional as F

from lengthwise.engine.kernels.part import Answer, Asked


def serves(asked: Asked) -> bool:
    """One part that all queries see, or a square causal one, and nobody asks for the LSE."""
    if len(asked.parts) > 1 or asked.sinks is not None or asked.need_lse:
        return False
    (part,) = asked.parts
    return (
        asked.softcap is None
        and part.log_weight is None
        and part.mask is None
        and (not part.causal or part.key.shape[1] == part.query.shape[1])
    )


def attend(asked: Asked) -> Answer:
    (part,) = asked.parts
    grouped = part.query.shape[0] != part.key.shape[0]
    out = F.scaled_dot_product_attention(
        part.query[None], part.key[None], part.value[None], is_causal=part.causal,
        scale=asked.scaling, enable_gqa=grouped,
    )  # fmt: skip
    return out[0], None


__all__ = ["attend", "serves"]
