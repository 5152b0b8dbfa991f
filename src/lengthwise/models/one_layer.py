"""One layer of a model in float32, where 16 bits would leave doubt: what rounding does is gone, and
no more than that layer is held twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lengthwise.models import attention_hook, obstacles
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.cut import cut_model
from lengthwise.models.rope import Rope
from lengthwise.models.sample import count_of, sample_ids


def kinds(adapted: AdaptedModel) -> list[int]:
    """The first layer of each kind that attends differently."""
    found: dict[tuple[object, ...], int] = {}
    for layer in adapted.layers:
        signature = (
            layer.num_heads, layer.num_kv_heads, layer.head_dim, layer.value_dim, layer.scaling,
            layer.softcap, layer.sinks is None, layer.window, layer.layer_type, layer.layout,
        )  # fmt: skip
        found.setdefault(signature, layer.index)
    return list(found.values())


def in_float32(adapted: AdaptedModel, index: int) -> AdaptedModel | None:
    """One layer of a model, in float32, over the embeddings of the tokens that are compared; None
    where the family cannot be taken apart."""
    layer = adapted.layers[index]
    sinks = None if layer.sinks is None else layer.sinks.float()
    try:
        model = cut_model(adapted.model, [index])
        ids = sample_ids(adapted, count_of(adapted))
        _widen(model, ids, layer.device)
        rope = adapted.rope
        if rope is not None:
            rope = Rope(rope.own, rope.facts, torch.float32, adapted.device)
        alone = AdaptedModel(
            model, [replace(layer, index=0, sinks=sinks)], rope, adapted.trained_length,
        )  # fmt: skip
        if len(alone._modules) != 1:
            return None
    except Exception:  # Whatever a family raises that cannot run with one layer.
        return None
    return alone


def _widen(model: PreTrainedModel, ids: Tensor, device: torch.device) -> None:
    """Parameters in float32, in memory of a device: of the embeddings only those of ids, and no
    head. Those of the model that this one shares its parameters with stay as they are."""
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    weight = obstacles.at_hand(embedding, "weight", embedding.weight.detach())
    rows = weight[ids.to(weight.device)].to(device, torch.float32)
    rotary = attention_hook.rotary_modules(model)
    for module in model.modules():
        if module is embedding or module is head:
            continue
        # Frequencies may have been rounded with the model; what is turned by them is not.
        kind = None if any(module is each for each in rotary) else torch.float32
        for name, parameter in module._parameters.items():
            if parameter is not None:
                wide = obstacles.at_hand(module, name, parameter.detach()).to(device, kind)
                module._parameters[name] = nn.Parameter(wide, requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                held = obstacles.at_hand(module, name, buffer)
                module._buffers[name] = held.to(device, kind if held.is_floating_point() else None)
    # All is in place now, and accelerate's hooks would bring it once more.
    for hooked in (vars(module) for module in model.modules() if "_hf_hook" in vars(module)):
        for name in ("_hf_hook", "_old_forward", "forward"):
            hooked.pop(name, None)
    embedding._parameters["weight"] = nn.Parameter(rows, requires_grad=False)
    embedding.num_embeddings, embedding.padding_idx = len(rows), None
    for owner in model.modules():
        for name, child in owner.named_children():
            if child is head:
                setattr(owner, name, nn.Identity())
