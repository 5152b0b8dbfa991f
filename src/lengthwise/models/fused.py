"""A leaner forward for plain Llama-shaped decoders: fewer, larger products and no bookkeeping.

One token through a small model is bound by reading weights once and by the number of calls. Query,
key and value projections become one product, gate and up another; masks, cache objects and rotary
tables are not built. A family is eligible by structure and, like every family, only stays if its
logits equal the stock model's.

On a CPU in bfloat16 weights are reordered into oneDNN's blocked layout once. A product of one token
then reads them at 43 GB/s where the plain layout gives 19 on the same two cores, with the same bits
in the result; larger products gain too. The packed copy lives beside the originals, which the model
keeps for its own use (and which stay on disk where they are memory-mapped). Elsewhere the joined
weights take the place of the originals, which become views of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from lengthwise.models.adapt import Adapted, LayerAttention

# Families whose decoder layer is exactly: x + attn(norm(x)), then x + down(silu(gate) * up).
FAMILIES = ("llama", "mistral", "qwen2")


class Product:
    """x `[n, in]` -> `[n, sum of out]`: several linear layers that read the same input, as one."""

    def __init__(self, *linears: nn.Linear) -> None:
        self._linears = linears
        biases = [linear.bias.data for linear in linears if linear.bias is not None]
        self._bias = torch.cat(biases) if biases else None
        first = linears[0].weight
        self._packed = first.device.type == "cpu" and first.dtype == torch.bfloat16 and can_pack()
        self._joined = not self._packed and len(linears) > 1
        if self._packed:
            whole = torch.cat([linear.weight.data for linear in linears])
            # The second argument is the batch the layout is tuned for; all sizes measured alike.
            self._weight = torch.ops.mkldnn._reorder_linear_weight(whole, 1)
        elif self._joined:
            self._weight = torch.cat([linear.weight.data for linear in linears])
            views = self._weight.split([linear.out_features for linear in linears])
            for linear, view in zip(linears, views, strict=True):
                linear.weight.data = view
        else:
            self._weight = first.data
        self._stamps = _stamps(linears)

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed:
            out: Tensor = torch.ops.mkldnn._linear_pointwise(
                x, self._weight, self._bias, "none", [], ""
            )
            return out
        return F.linear(x, self._weight, self._bias)

    def current(self) -> bool:
        """Whether the layers' weights are still those the product was made of."""
        return self._stamps == _stamps(self._linears)

    def release(self) -> None:
        """Gives the linear layers memory of their own again."""
        if self._joined:
            for linear in self._linears:
                linear.weight.data = linear.weight.data.clone()


def product(*linears: nn.Linear) -> Product:
    """The product of these layers; a model that shares their weights with another shares it too.

    A product holds its layers, so the numbers by which it is known are not given to others.
    """
    key = tuple(id(linear.weight) for linear in linears)
    found = _PRODUCTS.get(key)
    if found is None or not found.current():
        found = _PRODUCTS[key] = Product(*linears)
    return found


_PRODUCTS: WeakValueDictionary[tuple[int, ...], Product] = WeakValueDictionary()


def _stamps(linears: tuple[nn.Linear, ...]) -> list[tuple[int, int]]:
    """Where weights lie and how often they were written to."""
    weights = [linear.weight for linear in linears]
    # Tensors made for inference alone do not count what is written to them.
    return [(w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights]


def can_pack() -> bool:
    """Whether this torch can hold weights in oneDNN's own layout."""
    return bool(
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


@dataclass(eq=False)
class _Layer:
    norm: Any
    qkv: Product
    out: Product
    mlp_norm: Any
    gate_up: Product
    down: Product


class FusedForward:
    """`Adapted.forward` for FAMILIES; `release` gives the model separate weights again."""

    def __init__(self, adapted: Adapted) -> None:
        decoder: Any = adapted.model.model
        self._facts = adapted.layers
        self._embed: nn.Embedding = decoder.embed_tokens
        self._final: Any = decoder.norm
        self._head = product(adapted.model.lm_head)
        self._layers = [self._fuse(layer) for layer in decoder.layers]

    def _fuse(self, layer: Any) -> _Layer:
        attn, mlp = layer.self_attn, layer.mlp
        return _Layer(
            layer.input_layernorm,
            product(attn.q_proj, attn.k_proj, attn.v_proj),
            product(attn.o_proj),
            layer.post_attention_layernorm,
            product(mlp.gate_proj, mlp.up_proj),
            product(mlp.down_proj),
        )

    def release(self) -> None:
        for layer in self._layers:
            for product in (layer.qkv, layer.gate_up):
                product.release()
        self._layers.clear()

    @torch.no_grad()
    def __call__(
        self, ids: Tensor, attention: LayerAttention, keep: Tensor | None,
        states: list[Tensor] | None = None, embeddings: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        x = F.embedding(ids, self._embed.weight) if embeddings is None else embeddings
        count = len(ids)
        for index, (layer, facts) in enumerate(zip(self._layers, self._facts, strict=True)):
            heads, key_heads = facts.num_heads, facts.num_kv_heads
            qkv = layer.qkv(_norm(x, layer.norm))
            qkv = qkv.view(count, heads + 2 * key_heads, facts.head_dim).transpose(0, 1)
            query, key, value = qkv.split((heads, key_heads, key_heads))
            out = attention(index, query, key, value)
            x = x + layer.out(out.transpose(0, 1).reshape(count, -1))
            gate, up = layer.gate_up(_norm(x, layer.mlp_norm)).chunk(2, -1)
            x = x + layer.down(F.silu(gate).mul_(up))
        x = _norm(x if keep is None else x[keep], self._final)
        if states is not None:
            states.append(x)
        return self._head(x)


def _norm(x: Tensor, norm: Any) -> Tensor:
    return F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


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
