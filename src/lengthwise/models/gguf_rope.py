"""Rotary scaling as a GGUF file says it, as rope parameters of transformers, which ignores it.

    <arch>.rope.scaling.type         linear: all frequencies divided by factor
                                     yarn: by factor where slow, cos and sin times
                                     attn_factor (0.1 ln factor + 1)
                                     longrope: needs the two tensors below
    rope_freqs.weight                each frequency divided by its number (Llama 3.x)
    rope_factors_short/long.weight   the same, by the length of the text (Phi 3.x)

What llama.cpp does with them is what is meant. A file that says something else is refused by name.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from lengthwise.errors import ModelError

Parameters = dict[str, Any]

# What llama.cpp writes beside the type, and what is left of it when it changes nothing.
KNOWN: dict[str, tuple[float, ...] | None] = {
    "type": None, "factor": None, "original_context_length": None, "finetuned": None,
    "attn_factor": None, "yarn_attn_factor": None, "yarn_beta_fast": None, "yarn_beta_slow": None,
    "yarn_ext_factor": (1.0, -1.0), "yarn_log_multiplier": (0.0,), "alpha": (0.0, 1.0),
}  # fmt: skip
FREQS, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
# Families whose scaling transformers reads from the file by itself.
READ_ALREADY = ("gpt-oss",)


def apply_rope(reader: gguf.GGUFReader, config: PretrainedConfig, path: Path) -> bool:
    """Puts what the file says of rotary scaling into the configuration; returns whether it says
    anything. Raises ModelError where it cannot be read."""
    try:
        return _apply(reader, config)
    except _Unread as error:
        raise ModelError(
            f"{path}: its rotary scaling cannot be read ({error}); use the folder that the file "
            "was made of, or a file without it"
        ) from error


def says_anything(reader: gguf.GGUFReader) -> bool:
    """Whether the file scales its rotary positions in a way that transformers does not read."""
    arch = _field(reader, "general.architecture")
    if arch in READ_ALREADY:
        return False
    kind = _field(reader, f"{arch}.rope.scaling.type")
    names = {tensor.name for tensor in reader.tensors}
    return bool(
        kind not in (None, "none")
        or _field(reader, f"{arch}.rope.scale_linear") not in (None, 0.0, 1.0)
        or any(name.endswith((FREQS, SHORT, LONG)) for name in names)
    )


class _Unread(Exception):
    """Why a file's scaling has no counterpart here."""


def _apply(reader: gguf.GGUFReader, config: PretrainedConfig) -> bool:
    if not says_anything(reader):
        return False
    own: Parameters = dict(getattr(config, "rope_parameters", None) or {})
    nested = {kind: value for kind, value in own.items() if isinstance(value, dict)}
    if nested and "full_attention" not in nested:
        raise _Unread(f"layers of the types {', '.join(nested)} have rotary positions of their own")
    base = nested["full_attention"] if nested else own
    found = {
        "rope_theta": base["rope_theta"],
        **_scaling(reader, config, float(base["rope_theta"])),
    }
    if "partial_rotary_factor" in base:
        found["partial_rotary_factor"] = base["partial_rotary_factor"]
    # Layers with a window keep the frequencies of their own, as in llama.cpp.
    config.rope_parameters = {**own, "full_attention": found} if nested else found
    return True


def _scaling(reader: gguf.GGUFReader, config: PretrainedConfig, theta: float) -> Parameters:
    arch = _field(reader, "general.architecture")
    said = {
        key.removeprefix(f"{arch}.rope.scaling."): field.contents()
        for key, field in reader.fields.items()
        if key.startswith(f"{arch}.rope.scaling.")
    }
    for key, value in said.items():
        allowed = KNOWN.get(key, ())
        if allowed is not None and value not in allowed:
            raise _Unread(f"rope.scaling.{key} = {value}")
    kind = said.get("type", "none")
    factor = float(said.get("factor") or 1.0)
    linear = _field(reader, f"{arch}.rope.scale_linear")
    if kind == "none" and linear not in (None, 0.0, 1.0):
        kind, factor = "linear", float(linear)
    original = int(said.get("original_context_length") or config.max_position_embeddings)
    freqs = _factors(reader, FREQS, config)
    short, long = _factors(reader, SHORT, config), _factors(reader, LONG, config)
    if freqs is not None:
        if kind not in ("none", "linear") or short is not None:
            raise _Unread(f"rope_freqs.weight together with scaling of type {kind!r}")
        return _divided([each * (factor if kind == "linear" else 1.0) for each in freqs],
                        theta, original, config)  # fmt: skip
    if short is not None or long is not None:
        if short is None or long is None:
            raise _Unread("one of rope_factors_short.weight and rope_factors_long.weight is absent")
        return {
            "rope_type": "longrope", "short_factor": short, "long_factor": long,
            "original_max_position_embeddings": original,
            "attention_factor": float(said.get("attn_factor") or 1.0),
        }  # fmt: skip
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        amplitude = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
        times = float(said.get("attn_factor") or said.get("yarn_attn_factor") or 1.0)
        return {
            "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original,
            "attention_factor": amplitude * times,
            "beta_fast": float(said.get("yarn_beta_fast") or 32.0),
            "beta_slow": float(said.get("yarn_beta_slow") or 1.0),
        }  # fmt: skip
    raise _Unread(f"type {kind!r}")


def _factors(reader: gguf.GGUFReader, name: str, config: PretrainedConfig) -> list[float] | None:
    """The numbers of a tensor, one for each pair of channels that turns; None if it is absent."""
    found = [tensor for tensor in reader.tensors if tensor.name.endswith(name)]
    if not found:
        return None
    values = [np.asarray(tensor.data, dtype=np.float32).flatten() for tensor in found]
    if any(not np.array_equal(values[0], other) for other in values[1:]):
        raise _Unread(f"{name} differs from layer to layer")
    head_dim = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    parameters = getattr(config, "rope_parameters", None) or {}
    pairs = int(head_dim * parameters.get("partial_rotary_factor", 1.0)) // 2
    if len(values[0]) != pairs or not (values[0] > 0).all():
        raise _Unread(f"{name} has {len(values[0])} numbers for {pairs} pairs of channels")
    return [float(value) for value in values[0]]


def _divided(
    factors: list[float], theta: float, original: int, config: PretrainedConfig
) -> Parameters:
    """Frequencies divided by given factors: as Llama 3's rule where it gives just these, else as a
    longrope whose two sets are one."""
    for context in (8192, original):
        rule: Parameters = {
            "rope_type": "llama3", "factor": max(factors), "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": context,
        }  # fmt: skip
        if max(factors) > 1 and _gives(rule, factors, theta):
            return rule
    return {
        "rope_type": "longrope", "short_factor": factors, "long_factor": factors,
        "original_max_position_embeddings": original, "attention_factor": 1.0, "factor": 1.0,
    }  # fmt: skip


def _gives(rule: Parameters, factors: list[float], theta: float) -> bool:
    size = 2 * len(factors)
    config = LlamaConfig(
        hidden_size=size, num_attention_heads=1, head_dim=size,
        max_position_embeddings=int(rule["factor"] * rule["original_max_position_embeddings"]),
        rope_parameters={**rule, "rope_theta": theta},
    )  # fmt: skip
    inv_freq, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1.0 / theta ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
    return bool(torch.allclose(plain / torch.tensor(factors), inv_freq, rtol=1e-5, atol=0))


def _field(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


__all__ = ["apply_rope", "says_anything"]
