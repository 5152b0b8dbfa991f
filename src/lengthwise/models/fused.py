"""A leaner forward for plain Llama-shaped decoders: fewer, larger products and no bookkeeping.

One token through a small model is bound by reading weights once and by the number of calls. Query,
key and value projections become one product, gate and up another (`products.py`); masks, cache
objects and rotary tables are not built. A family is eligible by structure and, like every family,
only stays if its logits equal the stock model's.

It computes what the modules would, without calling them. So it runs only while they are those of
transformers, with plain weights, and nobody listens at them; that is looked at before each forward
(`Snapshot`). Weights that changed are read again. Where anything else stands in the way the forward
steps aside for the plain path, and comes back when that has gone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from operator import attrgetter, contains, itemgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN

from lengthwise._utils.timings import Timed
from lengthwise.models.adapted_model import AdaptedModel, LayerAttention, LayerByLayer
from lengthwise.models.dropout import dropping
from lengthwise.models.norms import MANY, Norms, NormWay
from lengthwise.models.obstacles import DEVICES, no_autocast
from lengthwise.models.packing import Packing
from lengthwise.models.products import MAKING, Product, Stamp, product
from lengthwise.models.quantised import LowBitLinear
from lengthwise.models.watch import hook_tables, own_tables, undisturbed

# Families whose decoder layer is exactly: x + attn(norm(x)), then x + down(silu(gate) * up), and
# how transformers begins the names of their modules.
FAMILIES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(eq=False)
class _Layer:
    norm: Any
    qkv: Product
    out: Product
    mlp_norm: Any
    gate_up: Product
    down: Product

    @property
    def products(self) -> tuple[Product, ...]:
        return self.qkv, self.out, self.gate_up, self.down


class Snapshot:
    """What a model was when the parts were made of it.

    It holds every module: its children and parameters, the hooks on it, a forward of its own, and
    by stamps where the weights lie that were copied or joined. Asking costs about a hundredth of a
    decoding step, so it is asked at each forward; it does not say what changed.
    """

    def __init__(self, model: nn.Module, stamps: list[Stamp]) -> None:
        modules = list(model.modules())
        self._hooks = hook_tables(modules)
        self._hook_count = sum(map(len, self._hooks))
        self._own = own_tables(model)
        self._tables = [t for m in modules for t in (m._modules, m._parameters) if t]
        self._entries = list(_values(self._tables))
        self._ids = list(map(id, self._entries))
        self._weights = [each for each in self._entries if isinstance(each, Tensor)]
        self._modules = modules
        self._kinds = list(map(type, modules))
        self._classes: list[Any] = list(set(self._kinds))
        self._forwards = [kind.forward for kind in self._classes]
        self._scaled = [vars(m) for m in modules if "scaling" in vars(m)]
        self._scalings = [table["scaling"] for table in self._scaled]
        self._dropping = [vars(m) for m in modules if dropping(m)]
        self._tensors = [tensor for tensor, _, _ in stamps]
        self._places = [place for _, place, _ in stamps]
        counted = [(tensor, writes) for tensor, _, writes in stamps if writes is not None]
        self._counted = [tensor for tensor, _ in counted]
        self._writes = [writes for _, writes in counted]

    def same(self) -> bool:
        """Whether modules, parameters, hooks and weights are those of then."""
        # By `map` alone, without a pass through Python for each: it is asked at every token.
        return (
            sum(map(len, self._hooks)) == self._hook_count
            and list(map(id, _values(self._tables))) == self._ids
            and not any(map(contains, self._own, repeat("forward")))
            and list(map(type, self._modules)) == self._kinds
            and list(map(_FORWARD, self._classes)) == self._forwards
            and list(map(_SCALING, self._scaled)) == self._scalings
            and not any(map(_TRAINING, self._dropping))
            and list(map(Tensor.data_ptr, self._tensors)) == self._places
            and list(map(_VERSION, self._counted)) == self._writes
        )

    def places(self) -> list[int]:
        """Where every parameter lies now, those included that are read where they lie."""
        return list(map(Tensor.data_ptr, self._weights))


_FORWARD, _VERSION = attrgetter("forward"), attrgetter("_version")
_SCALING, _TRAINING = itemgetter("scaling"), itemgetter("training")


def _values(tables: Iterable[dict[str, Any]]) -> Iterable[Any]:
    return chain.from_iterable(map(dict.values, tables))


@dataclass(eq=False)
class Parts:
    """What a forward is made of; never changed, so that threads may run one while another is made.

    norms: how vectors are normed. copies: the products whose weights are copies of the model's.
    """

    embed: nn.Embedding
    layers: list[_Layer]
    final: Any
    norms: Norms
    head: Product
    snapshot: Snapshot
    copies: list[Product]

    def address(self) -> tuple[object, ...]:
        """What a forward that was captured holds on to of it."""
        norms = [norm for layer in self.layers for norm in (layer.norm, layer.mlp_norm)]
        epsilons = [norm.variance_epsilon for norm in (*norms, self.final)]
        return self.snapshot.places(), epsilons

    @property
    def products(self) -> list[Product]:
        return [self.head, *(p for layer in self.layers for p in layer.products)]


class FusedForward:
    """`AdaptedModel.forward` for FAMILIES, by the modules where the plain path has to serve.

    `release` gives the model separate weights again.
    """

    def __init__(self, adapted: AdaptedModel) -> None:
        self._adapted = adapted
        self._model: Any = adapted.model
        self._family = adapted.family
        self._as = self._state(adapted.dtype, adapted.device)
        self._facts = adapted.layers
        self._parts: Parts | None = None
        # What was found to be fastest here; held, so that weights that change are read as before.
        self._timed: tuple[Packing, Norms] | None = None

    def ready(self, positions: Tensor) -> Parts | None:
        """What computes what the model's modules do now; None where the plain path has to.

        positions `[n]`: of the tokens to be read. Where they begin a text, copies of weights are
        held against what the model holds, which reads it once.
        """
        parts = self._parts
        if parts is not None:
            weight = parts.embed.weight
            if self._state(weight.dtype, weight.device) != self._as:
                self._adapted.refuse_moved()
        if parts is not None and parts.snapshot.same():
            begins = bool(parts.copies) and bool((positions == 0).any())
            if not begins or not any(copy.written() for copy in parts.copies):
                return parts
        self._adapted.refuse_moved()
        with MAKING:
            made = self._made()
            # While something only listens, what was made is kept for when it has gone.
            self._parts = made or self._parts
        return made

    def _state(self, dtype: torch.dtype, device: torch.device) -> tuple[object, ...]:
        """What a model was adapted as, as far as a forward could not tell by itself."""
        config = self._model.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        return dtype, device, window, config.num_hidden_layers

    def _made(self) -> Parts | None:
        """The parts as the model is now, or None where the plain path has to serve."""
        if not _eligible(self._model, self._family, len(self._facts)):
            # What was copied is of no use any more.
            self.release()
            return None
        if not undisturbed(self._model) or _random(self._model):
            return None
        decoder: Any = self._model.model
        for layer, facts in zip(decoder.layers, self._facts, strict=True):
            if layer.self_attn.scaling != facts.scaling:
                return None
        packing, norms = self._timed = self._timed or self._time(decoder.norm.weight)
        layers = [_fuse(layer, packing) for layer in decoder.layers]
        head = product(self._model.lm_head, packing=packing)
        packing.save()
        products = [head, *(p for layer in layers for p in layer.products)]
        snapshot = Snapshot(self._model, [stamp for p in products for stamp in p.stamps])
        copies = [p for p in products if p.packed]
        return Parts(decoder.embed_tokens, layers, decoder.norm, norms, head, snapshot, copies)

    def _time(self, norm: Tensor) -> tuple[Packing, Norms]:
        packing = Packing(self._model, self._adapted.pack)
        return packing, Norms(len(norm), norm.dtype, norm.device, packing.times)

    def timed(self) -> Iterator[Timed]:
        """What was timed of its products and norms."""
        for each in self._timed or ():
            yield from each.timed()

    def release(self) -> None:
        if self._parts is not None:
            for each in self._parts.products:
                each.release()
        self._parts = self._timed = None

    @torch.no_grad()
    def __call__(
        self, ids: Tensor, positions: Tensor, attention: LayerAttention, keep: Tensor | None = None,
        states: list[Tensor] | None = None, embeddings: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        if any(map(torch.is_autocast_enabled, DEVICES)):
            with no_autocast():
                return self(ids, positions, attention, keep, states, embeddings)
        parts = self.ready(positions)
        if parts is None:
            plain = self._adapted.through_modules
            return plain(ids, positions, attention, keep, states, embeddings)
        return self.run(parts, ids, attention, keep, states, embeddings)

    def run(
        self, parts: Parts, ids: Tensor, attention: LayerAttention, keep: Tensor | None = None,
        states: list[Tensor] | None = None, embeddings: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The forward itself, of tensors alone: nothing is looked at that a graph would not see.

        Args:
            parts: what `ready` gave. The others are those of `AdaptedModel.forward`.
        """
        layers = self._layers(parts, ids, attention, keep, states, embeddings)
        while True:
            try:
                next(layers)
            except StopIteration as end:
                logits: Tensor = end.value
                return logits

    def in_layers(
        self, ids: Tensor, positions: Tensor, attention: LayerAttention, keep: Tensor | None = None
    ) -> LayerByLayer | None:
        """The same forward, which rests behind every layer: see `FastForward`."""
        parts = self.ready(positions)
        return None if parts is None else self._resting(parts, ids, attention, keep)

    def _resting(
        self, parts: Parts, ids: Tensor, attention: LayerAttention, keep: Tensor | None
    ) -> LayerByLayer:
        layers = self._layers(parts, ids, attention, keep, None, None)
        while True:
            # Others may have run meanwhile, and found that the model is another one.
            if self._parts is not parts:
                return None
            try:
                next(layers)
            except StopIteration as end:
                logits: Tensor = end.value
                return logits
            yield

    def _layers(
        self, parts: Parts, ids: Tensor, attention: LayerAttention, keep: Tensor | None,
        states: list[Tensor] | None, embeddings: Tensor | None,
    ) -> Generator[None, None, Tensor]:  # fmt: skip
        x = F.embedding(ids, parts.embed.weight) if embeddings is None else embeddings
        count = len(ids)
        way = parts.norms.few if count < MANY else parts.norms.many
        for index, (layer, facts) in enumerate(zip(parts.layers, self._facts, strict=True)):
            heads, key_heads = facts.num_heads, facts.num_kv_heads
            qkv = layer.qkv.multiply(_norm(way, x, layer.norm))
            qkv = qkv.view(count, heads + 2 * key_heads, facts.head_dim).transpose(0, 1)
            query, key, value = qkv.split((heads, key_heads, key_heads))
            out = attention(index, query, key, value)
            x = x + layer.out.multiply(out.transpose(0, 1).reshape(count, -1))
            gate, up = layer.gate_up.multiply(_norm(way, x, layer.mlp_norm)).chunk(2, -1)
            x = x + layer.down.multiply(F.silu(gate).mul_(up))
            yield
        x = _norm(way, x if keep is None else x[keep], parts.final)
        if states is not None:
            states.append(x)
        return parts.head.multiply(x)


def _fuse(layer: Any, packing: Packing) -> _Layer:
    attn, mlp = layer.self_attn, layer.mlp
    return _Layer(
        layer.input_layernorm,
        product(attn.q_proj, attn.k_proj, attn.v_proj, packing=packing),
        product(attn.o_proj, packing=packing),
        layer.post_attention_layernorm,
        product(mlp.gate_proj, mlp.up_proj, packing=packing),
        product(mlp.down_proj, packing=packing),
    )


def _norm(way: NormWay, x: Tensor, norm: Any) -> Tensor:
    return way(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def fused_forward(adapted: AdaptedModel) -> FusedForward | None:
    """The fused forward of a model of FAMILIES, else None: the plain path serves every family."""
    return FusedForward(adapted) if adapted.family in FAMILIES else None


def _random(model: nn.Module) -> bool:
    return any(module.training and dropping(module) for module in model.modules())


def _eligible(model: Any, family: str, layers: int) -> bool:
    """Whether every module is transformers' own and every weight a plain tensor of one kind."""
    try:
        return _own_modules(model, _Own(family), layers) and _plain_weights(model)
    except AttributeError:  # A part is missing, or goes by another name.
        return False


def _own_modules(model: Any, own: _Own, layers: int) -> bool:
    if not own(model, "ForCausalLM") or not own(model.model, "Model"):
        return False
    decoder = model.model
    if type(decoder.layers) is not nn.ModuleList or len(decoder.layers) != layers:
        return False
    if not own(decoder.norm, "RMSNorm") or type(decoder.embed_tokens) is not nn.Embedding:
        return False
    if decoder.embed_tokens.max_norm is not None or not _plain_group((model.lm_head,)):
        return False
    return all(_plain_layer(layer, own) for layer in decoder.layers)


def _plain_weights(model: nn.Module) -> bool:
    weights = list(model.parameters())
    if not all(type(w) is nn.Parameter and w.layout is torch.strided for w in weights):
        return False
    places = {(w.device, w.dtype) for w in weights}
    return len(places) == 1 and not weights[0].is_meta and weights[0].dtype in DTYPES


def _plain_layer(layer: Any, own: _Own) -> bool:
    if not own(layer, "DecoderLayer") or not own(layer.self_attn, "Attention"):
        return False
    attn, mlp = layer.self_attn, layer.mlp
    norms = layer.input_layernorm, layer.post_attention_layernorm
    if not own(mlp, "MLP") or not all(own(norm, "RMSNorm") for norm in norms):
        return False
    groups = (
        (attn.q_proj, attn.k_proj, attn.v_proj), (attn.o_proj,), (mlp.gate_proj, mlp.up_proj),
        (mlp.down_proj,),
    )  # fmt: skip
    return type(mlp.act_fn) is type(ACT2FN["silu"]) and all(map(_plain_group, groups))


def _plain_group(linears: tuple[Any, ...]) -> bool:
    """Whether layers are plain and may be one: no two share a weight, all or none have a bias."""
    kinds = {type(linear) for linear in linears}
    if len(kinds) > 1 or not kinds <= {nn.Linear, LowBitLinear}:
        return False
    weights = [linear.data if kinds == {LowBitLinear} else linear.weight for linear in linears]
    apart = len(set(map(id, weights))) == len(linears)
    return apart and len({linear.bias is None for linear in linears}) == 1


class _Own:
    """Whether a module is of the class that transformers has for a part of a family's model."""

    def __init__(self, family: str) -> None:
        self._module = f"transformers.models.{family}.modeling_{family}"
        self._prefix = FAMILIES[family]

    def __call__(self, module: Any, part: str) -> bool:
        kind = type(module)
        return (
            kind.__module__ == kind.forward.__module__ == self._module
            and kind.__name__ == self._prefix + part
            and kind.forward.__qualname__ == f"{kind.__name__}.forward"
        )
