"""A stock model as the engine sees it: tokens in, un-rotated queries, keys and values out.

`adapt(model)` probes it once, compares its logits with the stock model's, and refuses by name what
differs. Everything above this folder works with `AdaptedModel` alone.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lengthwise._utils.timings import Timed
from lengthwise.models import attention_hook, obstacles
from lengthwise.models.layer_facts import LayerFacts
from lengthwise.models.quantised import format_of
from lengthwise.models.rope import Rope


class LayerAttention(Protocol):
    """One layer's attention: query `[heads, n, head_dim]`, key and value `[kv_heads, n, ...]`,
    un-rotated, of the n tokens of this forward; returns `[heads, n, value_dim]`."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor: ...


class Forward(Protocol):
    """Logits `[len(keep), vocab]` of flat tokens ids `[n]` at positions `[n]`.

    keep: indices of the tokens whose logits are wanted; None is all of them. states: a list to
    which the hidden states `[len(keep), hidden]` that the head reads are added. embeddings
    `[n, hidden]` are read instead of what `embed` gives for the ids.
    """

    def __call__(
        self, ids: Tensor, positions: Tensor, attention: LayerAttention,
        keep: Tensor | None = None, states: list[Tensor] | None = None,
        embeddings: Tensor | None = None,
    ) -> Tensor: ...  # fmt: skip


# A forward that rests behind every layer, and gives its logits, or None: the model is another one.
LayerByLayer = Generator[None, None, Tensor | None]


class FastForward(Forward, Protocol):
    """A leaner forward of one family, which goes through the modules where it has to."""

    def in_layers(
        self, ids: Tensor, positions: Tensor, attention: LayerAttention, keep: Tensor | None = None
    ) -> LayerByLayer | None:
        """The same forward, which rests behind every layer, where others may run.

        Returns:
            None where it would go through the modules, which cannot rest.
        """
        ...

    def release(self) -> None:
        """Gives the model its weights back as they were."""
        ...

    def timed(self) -> Iterator[Timed]:
        """What was timed on this machine of what it is made of."""
        ...


@dataclass(eq=False)
class AdaptedModel:
    """A model whose attention is ours while `forward` runs, and stock otherwise.

    layers: facts of every attention layer, by index. rope: None where there are no rotary
    positions. trained_length: tokens the model was trained to read at once. fast: a fused forward
    where the family has one. tokenizer: the model's, where one was given. notes: what `check` says
    beside, one sentence each. kernel: which kernels serve its attention, by name; None leaves it to
    what was timed. pack: whether its fused forward holds packed copies of weights on a CPU; None
    where that was timed to pay and memory is there. device: where tokens go and logits come from.
    devices: all that its parts compute on; a layer's entries are kept where it attends.
    """

    model: PreTrainedModel
    layers: list[LayerFacts]
    rope: Rope | None
    trained_length: int
    fast: FastForward | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    notes: list[str] = field(default_factory=list)
    kernel: str | None = None
    pack: bool | None = None

    device: torch.device = field(init=False)
    devices: list[torch.device] = field(init=False)
    forward: Forward = field(init=False)

    def __post_init__(self) -> None:
        self._as = obstacles.state_of(self.model)
        self.device = self._as["device"]
        self.devices = obstacles.devices_of(self.model)
        self.forward = self.through_modules if self.fast is None else self.fast

    @property
    def family(self) -> str:
        return str(self.model.config.get_text_config().model_type)

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def dtype_text(self) -> str:
        """The dtype, and the format of its weights where that is another: "bfloat16, int4 weights"
        for instance."""
        weights = format_of(self.model)
        return str(self.dtype).removeprefix("torch.") + (f", {weights} weights" if weights else "")

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

    def in_layers(
        self, ids: Tensor, positions: Tensor, attention: LayerAttention, keep: Tensor | None = None
    ) -> LayerByLayer | None:
        """`forward` layer by layer, where there is such a way: see `FastForward.in_layers`.

        Args:
            ids: token ids, int64 `[n]`.
            positions: where they stand, int64 `[n]`.
            attention: called for every layer with its un-rotated queries, keys and values.
            keep: indices of the tokens whose logits are wanted; None is all of them.
        """
        return None if self.fast is None else self.fast.in_layers(ids, positions, attention, keep)

    @torch.no_grad()
    @obstacles.no_autocast()
    def through_modules(
        self, ids: Tensor, positions: Tensor, attention: LayerAttention, keep: Tensor | None = None,
        states: list[Tensor] | None = None, embeddings: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """`forward` by the model's own modules: the plain path, which serves every family.

        Args:
            ids: token ids, int64 `[n]`.
            positions: where they stand, int64 `[n]`.
            attention: called for every layer with its un-rotated queries, keys and values.
            keep: indices of the tokens whose logits are wanted; None is all of them.
            states: a list that gets the hidden states `[len(keep), hidden]` which the head reads.
            embeddings: `[n, hidden]`, read instead of what `embed` gives for the ids.

        Returns:
            Logits `[len(keep), vocab]`.
        """
        self.refuse_moved()
        obstacles.refuse_dropout(self.model)
        with obstacles.as_written(self.model):
            return self._through_modules(ids, positions, attention, keep, states, embeddings)

    def refuse_moved(self) -> None:
        """Raises UnsuitableModel where the model is no longer what was adapted."""
        obstacles.refuse_moved(self.model, self._as)

    def use(self, fast: FastForward | None) -> None:
        """Reads by a leaner forward from now on; None is the model's own modules again.

        Args:
            fast: the forward of the model's family. The one before it gives its weights back.
        """
        if self.fast is not None:
            self.fast.release()
        self.fast = fast
        self.forward = self.through_modules if fast is None else fast

    def _through_modules(
        self, ids: Tensor, positions: Tensor, attention: LayerAttention, keep: Tensor | None,
        states: list[Tensor] | None, embeddings: Tensor | None,
    ) -> Tensor:  # fmt: skip
        order = {id(module): index for index, module in enumerate(self._modules)}

        def handler(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, **info: Any
        ) -> Tensor:
            layer = order.get(id(module), -1)
            obstacles.refuse_changed(self.model, self.layers[layer] if layer >= 0 else None, info)
            out = attention(layer, query[0], key[0], value[0])
            return out.transpose(0, 1)[None].contiguous()

        arguments: dict[str, Any] = {}
        # Of a model on several devices, what its head reads may lie on another than keep.
        late = keep is not None and self._takes_keep and len(self.devices) > 1
        if keep is not None and self._takes_keep and not late:
            arguments["logits_to_keep"] = keep
        cache = attention_hook.PassThroughCache(len(self.layers))
        with attention_hook.engaged(self.model, handler), self._noting(states, keep, late):
            logits: Tensor = self.model(
                **_inputs(ids, embeddings), position_ids=positions[None], past_key_values=cache,
                use_cache=True, **arguments,
            ).logits[0].to(self.device)  # fmt: skip
        return logits if keep is None or self._takes_keep else logits[keep]

    @contextmanager
    def _noting(
        self, states: list[Tensor] | None, keep: Tensor | None, late: bool
    ) -> Iterator[None]:
        """Adds what the head reads to states, where they are wanted. late: has it read no more than
        the tokens in keep."""
        if states is None and not late:
            yield
            return

        mine = threading.get_ident()

        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if threading.get_ident() != mine:
                return None
            read = inputs[0][0]
            if keep is not None and (late or not self._takes_keep):
                read = read[keep.to(read.device)]
            if states is not None:
                states.append(read.to(self.device))
            return (read[None], *inputs[1:]) if late else None

        handle = self.model.get_output_embeddings().register_forward_pre_hook(note)
        try:
            yield
        finally:
            handle.remove()

    @torch.no_grad()
    def embed(self, ids: Tensor) -> Tensor:
        """What the first layer is fed for ids `[n]`: `[n, hidden]`, before any factor that a family
        applies to whatever it is fed.

        Args:
            ids: token ids, int64 `[n]`, on the model's device.
        """
        found: Tensor = self.model.get_input_embeddings()(ids[None])[0]
        return found.to(self.device)

    def release(self) -> None:
        """Undoes what a fused forward did to the model's weights."""
        self.use(None)

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
    with attention_hook.engaged(model, handler), torch.no_grad():
        cache = attention_hook.PassThroughCache(count)
        model(input_ids=ids, position_ids=ids, past_key_values=cache, use_cache=True)
    return found
