"""Where this machine computes what nobody put elsewhere."""

from __future__ import annotations

import torch


def fastest_device() -> torch.device:
    """Its accelerator, or else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


__all__ = ["fastest_device"]
