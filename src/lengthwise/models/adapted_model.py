"""A stock model as the engine sees it: tokens in, un-rotated queries, keys and values out.

`adapt(model)` probes it once, compares its logits with the stock model's, and refuses by name what
differs. Everything above this folder works with `Adapted` alone.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lengthwise.errors import UnsupportedModel
from lengthwise.models import attention_hook as seam, obstacles
from lengthwise.models.frequencies import OwnFrequencies
from lengthwise.models.load import trained_length
from lengthwise.models.probe import LayerFacts, layer_facts
from lengthwise.models.rope import Rope, RopeFacts
from lengthwise.models.verify import FLOOR


class LayerAttention(Protocol):
    """One layer's attention: query `[heads, n, head_dim]`, key and value `[kv_heads, n, ...]`,
    un-rotated, of the n tokens of this forward; returns `[heads, n, value_dim]`."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor: ...


class FastForward(Protocol):
    """A leaner forward of one family, with the same contract as `Adapted.forward`."""

    def __call__(
        self, ids: Tensor, positions: Tensor, attention: LayerAttention, keep: Tensor | None,
        states: list[Tensor] | None = None, embeddings: Tensor | None = None,
    ) -> Tensor | None:  # fmt: skip
        """None where the model has become something that this forward does not compute."""
        ...

    def release(self) -> None:
        """Gives the model its weights back as they were."""
        ...


@dataclass(eq=False)
class Adapted:
    """A model whose attention is ours while `forward` runs, and stock otherwise.

    layers: facts of every attention layer, by index. rope: None where there are no rotary
    positions. trained_length: tokens the model was trained to read at once. fast: a fused forward
    where the family has one. tokenizer: the model's, where one was given. notes: what `check` says
    beside, one sentence each.
    """

    model: PreTrainedModel
    layers: list[LayerFacts]
    rope: Rope | None
    trained_length: int
    takes_kind: bool
    fast: FastForward | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._as = obstacles.state_of(self.model)

    @property
    def family(self) -> str:
        return str(self.model.config.get_text_config().model_type)

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        return obstacles.device_of(self.model)

    @property
    def vocab_size(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def bytes_per_token(self) -> int:
        """KV bytes of one token over all layers, stored plain."""
        size = torch.empty(0, dtype=self.dtype).element_size()
        return size * sum(layer.entry_numbers for layer in self.layers)

    @property
    def switch(self) -> int | None:
        """The longest text read with the model's first rotary frequencies; None: all are."""
        return None if self.rope is None else self.rope.switch

    def kind(self, layer: LayerFacts) -> str | None:
        """The layer type the rotary module is called with for this layer."""
        return layer.kind if self.takes_kind else None

    @torch.no_grad()
    @obstacles.no_autocast()
    def forward(
        self, ids: Tensor, positions: Tensor, attention: LayerAttention, keep: Tensor | None = None,
        states: list[Tensor] | None = None, embeddings: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Logits `[len(keep), vocab]` of flat tokens ids `[n]` at positions `[n]`.

        keep: indices of the tokens whose logits are wanted; None is all of them. states: a list to
        which the hidden states `[len(keep), hidden]` that the head reads are added. embeddings
        `[n, hidden]` are read instead of what `embed` gives for the ids.
        """
        obstacles.refuse_moved(self.model, self._as)
        if self.fast is not None:
            found = self.fast(ids, positions, attention, keep, states, embeddings)
            if found is not None:
                return found
        obstacles.refuse_dropout(self.model)
        with obstacles.as_written(self.model):
            return self._through_modules(ids, positions, attention, keep, states, embeddings)

    def _through_modules(
        self, ids: Tensor, positions: Tensor, attention: LayerAttention, keep: Tensor | None,
        states: list[Tensor] | None, embeddings: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """`forward` by the model's own modules: the plain path, which serves every family."""
        order = {id(module): index for index, module in enumerate(self._modules)}

        def handler(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, **info: Any
        ) -> Tensor:
            layer = order.get(id(module), -1)
            obstacles.refuse_changed(self.model, self.layers[layer] if layer >= 0 else None, info)
            out = attention(layer, query[0], key[0], value[0])
            return out.transpose(0, 1)[None].contiguous()

        arguments: dict[str, Any] = {}
        if keep is not None and self._takes_keep:
            arguments["logits_to_keep"] = keep
        cache = seam.PassThroughCache(len(self.layers))
        with seam.engaged(self.model, handler), self._noting(states, keep):
            logits: Tensor = self.model(
                **_inputs(ids, embeddings), position_ids=positions[None], past_key_values=cache,
                use_cache=True, **arguments,
            ).logits[0]  # fmt: skip
        return logits if keep is None or self._takes_keep else logits[keep]

    @contextmanager
    def _noting(self, states: list[Tensor] | None, keep: Tensor | None) -> Iterator[None]:
        """Adds what the head reads to states, where they are wanted."""
        if states is None:
            yield
            return

        mine = threading.get_ident()

        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if threading.get_ident() != mine:
                return
            read = inputs[0][0]
            states.append(read if keep is None or self._takes_keep else read[keep])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(note)
        try:
            yield
        finally:
            handle.remove()

    @torch.no_grad()
    def embed(self, ids: Tensor) -> Tensor:
        """What the first layer is fed for ids `[n]`: `[n, hidden]`, before any factor that a family
        applies to whatever it is fed."""
        found: Tensor = self.model.get_input_embeddings()(ids[None])[0]
        return found

    @cached_property
    def takes_embeddings(self) -> bool:
        """Whether feeding `embed(ids)` gives the logits that feeding ids gives: not so in families
        that read the ids in later layers too."""
        from lengthwise.models.plain_attention import plain_attention

        ids = torch.arange(8, device=self.device) % self.vocab_size
        positions = torch.arange(len(ids), device=self.device)
        attention = plain_attention(self, positions)
        given = self.forward(ids, positions, attention)
        try:
            ours = self.forward(ids, positions, attention, embeddings=self.embed(ids))
        except Exception:  # Whatever a family raises that wants its ids.
            return False
        # The same products of the same numbers, but for kernels that add in no fixed order.
        error = float((ours - given).float().abs().mean() / given.float().std().clamp_min(1e-6))
        return error <= FLOOR.get(self.dtype, 1e-3)

    def release(self) -> None:
        """Undoes what a fused forward did to the model's weights."""
        if self.fast is not None:
            self.fast.release()
            self.fast = None

    @property
    def _modules(self) -> list[nn.Module]:
        if not hasattr(self, "_found"):
            self._found = _attention_modules(self.model, len(self.layers))
        return self._found

    @property
    def _takes_keep(self) -> bool:
        return "logits_to_keep" in inspect.signature(self.model.forward).parameters


def _inputs(ids: Tensor, embeddings: Tensor | None) -> dict[str, Tensor]:
    return {"input_ids": ids[None]} if embeddings is None else {"inputs_embeds": embeddings[None]}


def _attention_modules(model: PreTrainedModel, count: int) -> list[nn.Module]:
    found: list[nn.Module] = []

    def handler(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
        found.append(module)
        size = (1, query.shape[2], query.shape[1], value.shape[-1])
        return torch.zeros(size, dtype=value.dtype, device=value.device)

    ids = torch.zeros(1, 1, dtype=torch.long, device=obstacles.device_of(model))
    with seam.engaged(model, handler), torch.no_grad():
        model(input_ids=ids, position_ids=ids, past_key_values=seam.PassThroughCache(count),
              use_cache=True)  # fmt: skip
    return found


def _rope(model: PreTrainedModel, layers: list[LayerFacts], takes_kind: bool) -> Rope | None:
    modules = seam.rotary_modules(model)
    if not modules:
        return None
    config = model.config.get_text_config()
    parameters = getattr(config, "rope_parameters", None) or {}
    length = trained_length(model.config)
    facts: dict[str | None, RopeFacts] = {}
    for layer in layers:
        kind = layer.kind if takes_kind else None
        if layer.pairing is not None and kind not in facts:
            own = parameters.get(kind, parameters) if takes_kind else parameters
            theta = float(own.get("rope_theta", 10000.0))
            facts[kind] = RopeFacts(theta, int(layer.pairing.rotated.sum()), length)
    return Rope(OwnFrequencies(modules[0]), facts, model.dtype, obstacles.device_of(model))


@obstacles.no_autocast()
def adapt(
    model: PreTrainedModel, fuse: bool = True, verify: bool = True,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Adapted:  # fmt: skip
    """Probes a causal language model and returns it adapted.

    fuse: use the leaner forward where the family has one and it gives the same. verify: compare
    with the stock model on a few tokens (see `verify`), of a text where there is a tokenizer.
    Raises UnsupportedModel with the family and the reason.
    """
    model = obstacles.adaptable(model)
    with obstacles.as_written(model):
        return _adapted(model, fuse, verify, tokenizer)


def _adapted(
    model: PreTrainedModel, fuse: bool, verify: bool, tokenizer: PreTrainedTokenizerBase | None
) -> Adapted:
    from lengthwise.models import verify as verification
    from lengthwise.models.fused import fused_forward

    layers = layer_facts(model)
    modules = seam.rotary_modules(model)
    takes_kind = (
        bool(modules) and "layer_type" in inspect.signature(type(modules[0]).forward).parameters
    )
    adapted = Adapted(
        model, layers, _rope(model, layers, takes_kind), trained_length(model.config), takes_kind
    )
    adapted.tokenizer = tokenizer
    try:
        verifier = verification.verify(adapted) if verify else None
    except UnsupportedModel:
        obstacles.refuse_two_ways(model)
        raise
    if fuse:
        adapted.fast = fused_forward(adapted)
        found = verifier.logits() if adapted.fast is not None and verifier is not None else ""
        if found:
            adapted.release()
            adapted.notes.append(f"its fused forward was left out, the plain one is used: {found}")
    return adapted
