"""A leaner forward for plain Llama-shaped decoders: fewer, larger products and no bookkeeping.

One token through a small model is bound by reading weights once and by the number of calls. Query,
key and value projections become one product, gate and up another; masks, cache objects and rotary
tables are not built. The fused weights replace the originals in memory (these become views of them),
so nothing is held twice. A family is eligible by structure and, like every family, only stays if its
logits equal the stock model's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from lengthwise.models.adapt import Adapted, LayerAttention

# Families whose decoder layer is exactly: x + attn(norm(x)), then x + down(silu(gate) * up).
FAMILIES = ("llama", "mistral", "qwen2")


@dataclass(eq=False)
class _Layer:
    norm: Tensor
    eps: float
    qkv: Tensor
    qkv_bias: Tensor | None
    out: nn.Linear
    mlp_norm: Tensor
    mlp_eps: float
    gate_up: Tensor
    down: nn.Linear


class FusedForward:
    """`Adapted.forward` for FAMILIES; `release` gives the model separate weights again."""

    def __init__(self, adapted: Adapted) -> None:
        decoder: Any = adapted.model.model
        self._adapted = adapted
        self._embed: nn.Embedding = decoder.embed_tokens
        self._final: Any = decoder.norm
        self._head: nn.Linear = adapted.model.lm_head
        self._fused: list[tuple[nn.Linear, ...]] = []
        self._layers = [self._fuse(layer) for layer in decoder.layers]

    def _fuse(self, layer: Any) -> _Layer:
        attn, mlp = layer.self_attn, layer.mlp
        qkv, bias = self._join(attn.q_proj, attn.k_proj, attn.v_proj)
        gate_up, _ = self._join(mlp.gate_proj, mlp.up_proj)
        before, after = layer.input_layernorm, layer.post_attention_layernorm
        return _Layer(
            before.weight, before.variance_epsilon, qkv, bias, attn.o_proj, after.weight,
            after.variance_epsilon, gate_up, mlp.down_proj,
        )  # fmt: skip

    def _join(self, *linears: nn.Linear) -> tuple[Tensor, Tensor | None]:
        weight = torch.cat([linear.weight.data for linear in linears])
        views = weight.split([linear.out_features for linear in linears])
        for linear, view in zip(linears, views, strict=True):
            linear.weight.data = view
        self._fused.append(linears)
        biases = [linear.bias.data for linear in linears if linear.bias is not None]
        return weight, torch.cat(biases) if biases else None

    def release(self) -> None:
        for linears in self._fused:
            for linear in linears:
                linear.weight.data = linear.weight.data.clone()
        self._fused.clear()
        self._layers.clear()

    @torch.no_grad()
    def __call__(self, ids: Tensor, attention: LayerAttention, keep: Tensor | None) -> Tensor:
        x = F.embedding(ids, self._embed.weight)
        count = len(ids)
        size = (x.shape[-1],)
        facts = self._adapted.layers
        for index, layer in enumerate(self._layers):
            fact = facts[index]
            heads, key_heads = fact.num_heads, fact.num_kv_heads
            normed = F.rms_norm(x, size, layer.norm, layer.eps)
            qkv = F.linear(normed, layer.qkv, layer.qkv_bias)
            qkv = qkv.view(count, heads + 2 * key_heads, fact.head_dim).transpose(0, 1)
            query, key, value = qkv.split((heads, key_heads, key_heads))
            out = attention(index, query, key, value)
            out = out.transpose(0, 1).reshape(count, heads * fact.value_dim)
            x = x + F.linear(out, layer.out.weight, layer.out.bias)
            normed = F.rms_norm(x, size, layer.mlp_norm, layer.mlp_eps)
            gate, up = F.linear(normed, layer.gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate).mul_(up), layer.down.weight)
        x = x if keep is None else x[keep]
        x = F.rms_norm(x, size, self._final.weight, self._final.variance_epsilon)
        return F.linear(x, self._head.weight)


def fused_forward(adapted: Adapted) -> FusedForward | None:
    """The fused forward of an eligible model, else None: the plain path serves every family."""
    if adapted.family not in FAMILIES or not _eligible(adapted.model):
        return None
    return FusedForward(adapted)


def _eligible(model: Any) -> bool:
    """Plain Linear modules without hooks, adapters or quantised weights."""
    try:
        layers = model.model.layers
        linears = [
            linear
            for layer in layers
            for linear in (
                layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj,
                layer.self_attn.o_proj, layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj,
            )
        ]  # fmt: skip
    except AttributeError:
        return False
    config = model.config.get_text_config()
    watched = [model, model.model, *layers, *linears]
    return (
        all(type(linear) is nn.Linear and linear.weight.is_floating_point() for linear in linears)
        and not any(module._forward_hooks or module._forward_pre_hooks for module in watched)
        and not getattr(config, "mlp_bias", False)
        and config.hidden_act == "silu"
        and len({str(p.device) for p in model.parameters()}) == 1
    )
