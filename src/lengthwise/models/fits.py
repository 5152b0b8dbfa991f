"""Whether a model's weights fit where they are to lie, asked before they are read."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lengthwise._utils.machine import free_memory
from lengthwise.errors import ModelError


def require_fits(name: str, local: bool, dtype: torch.dtype, device: torch.device) -> None:
    """Raises ModelError for a model larger than the memory that is free on its device.

    What cannot be told beforehand (a model that transformers does not know by itself, quantised
    weights, a device that does not say) is left to the loading.

    Args:
        name: a folder or a hub name.
        local: whether the hub is not to be asked.
        dtype: that the weights are loaded in.
        device: where they go.
    """
    free, size = free_on(device), weight_bytes(name, local, dtype)
    if free is None or size is None or size <= free:
        return
    remedy = "take a smaller model or another device"
    if dtype.itemsize > 2 and size // 2 <= free:
        remedy = "dtype='bfloat16' takes half of it, which fits"
    raise ModelError(
        f"{name}: its weights take {size / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')}, and "
        f"{free / 1e9:.1f} GB are free on {device}: {(size - free) / 1e9:.1f} GB are missing; "
        f"{remedy}"
    )


def free_on(device: torch.device) -> int | None:
    """Bytes that are free on a device, of a CPU with what may be swapped out; None where it does
    not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory(swap=True) if device.type == "cpu" else None


def weight_bytes(name: str, local: bool, dtype: torch.dtype) -> int | None:
    """Bytes of all weights of a model in a dtype, from its configuration alone; None where that
    does not tell."""
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=local)
        if getattr(config, "quantization_config", None) is not None:
            return None
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception:  # The loading finds the same, and says it.
        return None
    numbers: int = sum(weight.numel() for weight in model.parameters())
    return numbers * dtype.itemsize


__all__ = ["free_on", "require_fits", "weight_bytes"]
