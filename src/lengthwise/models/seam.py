"""Where lengthwise meets a stock transformers model, and nothing else does.

While the seam is engaged, (1) the rotary module returns cos = 1 and sin = 0, so queries and keys
arrive un-rotated, (2) every attention layer calls `_attention`, registered once under a name of our
own, which hands them to whoever runs the forward, and (3) the model's cache argument passes new
keys and values through, because what is kept is ours to decide. Leaving the context restores the
model.
Rows of a batch are given as one flat sequence: attention is done row by row by the engine, so no
padding exists and no mask can be lost.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

NAME = "lengthwise"


class Handler(Protocol):
    """Receives one layer's un-rotated tensors and returns its attention output.

    query `[1, heads, n, head_dim]`, key `[1, kv_heads, n, head_dim]`, value `[1, kv_heads, n,
    value_dim]`, n the tokens of this forward; returns `[1, n, heads, value_dim]`.
    """

    def __call__(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, **info: Any
    ) -> Tensor: ...


_handler: contextvars.ContextVar[Handler] = contextvars.ContextVar("lengthwise_handler")


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: object = None,
    **info: Any,
) -> tuple[Tensor, None]:
    return _handler.get()(module, query, key, value, attention_mask=attention_mask, **info), None


AttentionInterface.register(NAME, _attention)


class _PassLayer(DynamicLayer):
    """A cache layer that hands new keys and values through and keeps none."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        return key_states, value_states

    def get_seq_length(self) -> int:
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0


class PassThroughCache(Cache):
    """What the model believes to be its cache."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[_PassLayer() for _ in range(layers)])  # type: ignore[no-untyped-call]


def rotary_modules(model: nn.Module) -> list[nn.Module]:
    """The modules that turn position ids into cos and sin, in order."""
    found = []
    for name, module in model.named_modules():
        if name.rpartition(".")[2].startswith("rotary_emb") and any(
            buffer.endswith("inv_freq") for buffer, _ in module.named_buffers(recurse=False)
        ):
            found.append(module)
    return found


def _configs(model: PreTrainedModel) -> list[Any]:
    found: dict[int, Any] = {}
    for module in model.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation"):
            found[id(config)] = config
    return list(found.values())


RotaryForward = Callable[..., tuple[Tensor, Tensor]]


def identity(original: RotaryForward) -> RotaryForward:
    """A rotary forward that rotates by nothing, with the shapes the family expects."""
    shapes: dict[tuple[object, ...], tuple[int, ...]] = {}

    def forward(
        x: Tensor, position_ids: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        key = (*args, *kwargs.values())
        if key not in shapes:
            cos, _ = original(x, position_ids, *args, **kwargs)
            shapes[key] = tuple(cos.shape[2:])
        # Image-text families give the positions of a token in rows: time, height and width.
        size = (*position_ids.shape[-2:], *shapes[key])
        return (
            torch.ones(size, dtype=x.dtype, device=x.device),
            torch.zeros(size, dtype=x.dtype, device=x.device),
        )

    return forward


@contextmanager
def engaged(
    model: PreTrainedModel,
    handler: Handler,
    rotary: Callable[[RotaryForward], RotaryForward] = identity,
    name: str = NAME,
) -> Iterator[None]:
    """Engages the seam: every attention of the model goes to handler until the context is left."""
    configs = _configs(model)
    before = [config._attn_implementation for config in configs]
    modules = rotary_modules(model)
    token = _handler.set(handler)
    try:
        for module in modules:
            module.forward = rotary(type(module).forward.__get__(module))
        for config in configs:
            config._attn_implementation = name
        yield
    finally:
        _handler.reset(token)
        for module in modules:
            module.__dict__.pop("forward", None)
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = implementation
