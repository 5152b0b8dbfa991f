"""Whether a model's weights fit where they are to lie, asked before they are read."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lengthwise._utils.machine import free_memory
from lengthwise.errors import ModelError
from lengthwise.models.low_bit import BITS, FORMATS
from lengthwise.models.quantised import is_linear, matrix


def require_fits(
    name: str, local: bool, dtype: torch.dtype, device: torch.device, weights: str | None = None
) -> None:
    """Raises ModelError for a model larger than the memory that is free on its device.

    What cannot be told beforehand (a model that transformers does not know by itself, quantised
    weights, a device that does not say) is left to the loading.

    Args:
        name: a folder or a hub name.
        local: whether the hub is not to be asked.
        dtype: that the weights are loaded in.
        device: where they go.
        weights: what linear layers hold them in, where that is not dtype: "int8" or "int4".
    """
    free, size = free_on(device), weight_bytes(name, local, dtype, weights)
    if free is None or size is None or size <= free:
        return
    kind = str(dtype).removeprefix("torch.") if weights is None else weights
    raise ModelError(
        f"{name}: its weights take {size / 1e9:.1f} GB in {kind}, and "
        f"{free / 1e9:.1f} GB are free on {device}: {(size - free) / 1e9:.1f} GB are missing; "
        f"{_remedy(name, local, dtype, weights, free)}"
    )


def _remedy(name: str, local: bool, dtype: torch.dtype, weights: str | None, free: int) -> str:
    """What would fit, if anything does."""
    half = torch.bfloat16 if dtype.itemsize > 2 else dtype
    others: dict[str, tuple[torch.dtype, str | None]] = {}
    if half != dtype:
        others["dtype='bfloat16'"] = half, None
    for small in FORMATS if weights is None else ():
        others[f"weights={small!r}"] = half, small
    for text, kind in others.items():
        size = weight_bytes(name, local, *kind)
        if size is not None and size <= free:
            return f"{text} takes {size / 1e9:.1f} GB, which fits"
    return "take a smaller model or another device"


def free_on(device: torch.device) -> int | None:
    """Bytes that are free on a device, of a CPU with what may be swapped out; None where it does
    not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory(swap=True) if device.type == "cpu" else None


def weight_bytes(
    name: str, local: bool, dtype: torch.dtype, weights: str | None = None
) -> int | None:
    """Bytes of all weights of a model in a dtype, from its configuration alone; None where that
    does not tell. weights: what linear layers hold theirs in, "int8" or "int4"."""
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=local)
        if getattr(config, "quantization_config", None) is not None:
            return None
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception:  # The loading finds the same, and says it.
        return None
    every: int = sum(weight.numel() for weight in model.parameters())
    if weights is None:
        return every * dtype.itemsize
    head = model.get_output_embeddings()
    small = {weights: 0, "int8": 0}
    for layer in filter(is_linear, model.modules()):
        small["int8" if layer is head else weights] += matrix(layer).numel()
    # A head that is tied gets weights of its own.
    tied = head is not None and model.config.get_text_config().tie_word_embeddings
    wide: int = every - sum(small.values()) + (matrix(head).numel() if tied else 0)
    return wide * dtype.itemsize + int(sum(small[name] * BITS[name] / 8 for name in small))


__all__ = ["free_on", "require_fits", "weight_bytes"]
