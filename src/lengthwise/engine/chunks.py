"""How many tokens of a prompt one forward reads."""

from __future__ import annotations

import torch

# Tokens of a prefill forward: large enough for full speed of the products, small enough that what
# lives beside the cache stays a few percent of it.
CHUNK = 1024
# A GPU is not filled by as few: on an H200 8,192 tokens read in one go take 0.74 of the time.
GPU_CHUNK = 8192


def chunk_of(device: torch.device, scores: bool) -> int:
    """Tokens of a forward on a device. scores: logits of all are wanted, which take the most
    memory."""
    return GPU_CHUNK if device.type == "cuda" and not scores else CHUNK


__all__ = ["CHUNK", "GPU_CHUNK", "chunk_of"]
