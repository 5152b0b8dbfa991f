"""Where lengthwise meets a stock transformers model, and nothing else does.

While the hook is engaged, three things hold:

- The rotary module returns cos = 1 and sin = 0, so queries and keys arrive un-rotated.
- Every attention layer calls `_attention`, registered once under a name of our own, which hands
  them to whoever runs the forward.
- The model's cache argument passes new keys and values through, because what is kept is ours to
  decide.

Leaving the context restores the model. Other threads may engage the same model meanwhile, or run it
as it is. What is put into the model looks up who is asking (a context variable). Who has engaged
nothing gets what stock would answer. It is taken out again when the last one leaves.

Rows of a batch are given as one flat sequence: attention is done row by row by the engine, so no
padding exists and no mask can be lost.
"""

from __future__ import annotations

import contextvars
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
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


RotaryForward = Callable[..., tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Engagement:
    """Who runs the forward: its handler, its rotary forwards by module, and its mask, if it wants
    one."""

    handler: Handler
    rotary: dict[int, RotaryForward]
    mask: Callable[..., Tensor] | None


@dataclass(eq=False)
class _Lent:
    """Something of a model's that is ours while anybody has engaged it. before: what it was."""

    owner: Any
    before: Any
    users: int = 0


_engagement: contextvars.ContextVar[Engagement | None] = contextvars.ContextVar(
    "lengthwise_engagement", default=None
)
# By id; the owners are held, so that no id is given to another meanwhile.
_lent: dict[int, _Lent] = {}
_lending = threading.Lock()


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any = None,
    **info: Any,
) -> tuple[Tensor, Tensor | None]:
    engagement = _engagement.get()
    handler = own_attention if engagement is None else engagement.handler
    return handler(module, query, key, value, attention_mask=attention_mask, **info), None


def _mask(*args: Any, **kwargs: Any) -> Any:
    engagement = _engagement.get()
    make = own_mask if engagement is None else engagement.mask
    return None if make is None else make(*args, **kwargs)


def own_attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor,
                  attention_mask: Any = None, **info: Any) -> Tensor:  # fmt: skip
    """What the model's own attention gives, the one named when nobody has engaged it."""
    stock = AttentionInterface().get_interface(_own(module.config), _eager(module))
    found: Tensor = stock(module, query, key, value, attention_mask, **info)[0]
    return found


def own_mask(*args: Any, config: Any = None, **kwargs: Any) -> Any:
    """The mask that goes with `own_attention`."""
    own = _own(config)
    masks = AttentionMaskInterface()
    return masks[own](*args, config=config, **kwargs) if own in masks else None


def eager_attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor,
                    attention_mask: Any = None, **info: Any) -> Tensor:  # fmt: skip
    """What the family's plain attention gives, where it has one; else its own."""
    stock = _eager(module)
    if stock is None:
        return own_attention(module, query, key, value, attention_mask, **info)
    found: Tensor = stock(module, query, key, value, attention_mask, **info)[0]
    return found


def eager_mask(*args: Any, **kwargs: Any) -> Any:
    """The mask that goes with `eager_attention`."""
    return AttentionMaskInterface()["eager"](*args, **kwargs)


def drops_softcap(config: Any) -> bool:
    """Whether the attention that a configuration names leaves out its cap on logits: SDPA has none,
    and transformers before 5.23 gives it to such models (gemma 2) all the same."""
    return _named(config) == "sdpa" and getattr(config, "attn_logit_softcapping", None) is not None


def _own(config: Any) -> str:
    """The attention of a model when nobody has engaged it, or what it should be."""
    return "eager" if drops_softcap(config) else _named(config)


def _named(config: Any) -> str:
    with _lending:
        lent = _lent.get(id(config))
        return str(config._attn_implementation if lent is None else lent.before)


def _eager(module: nn.Module) -> Any:
    """The family's own plain attention, which no table names."""
    return getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)


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


def _ours(module: nn.Module, before: RotaryForward) -> RotaryForward:
    """The forward of a rotary module while it is engaged by anybody."""

    def forward(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        engagement = _engagement.get()
        found = None if engagement is None else engagement.rotary.get(id(module))
        return before(*args, **kwargs) if found is None else found(*args, **kwargs)

    return forward


def _reading(module: nn.Module) -> RotaryForward:
    """The module's forward without the decorator that lets lengths change the module."""
    found: RotaryForward = inspect.unwrap(type(module).forward).__get__(module)
    return found


@contextmanager
def engaged(
    model: PreTrainedModel,
    handler: Handler,
    rotary: Callable[[RotaryForward], RotaryForward] = identity,
    mask: Callable[..., Tensor] | None = None,
) -> Iterator[None]:
    """Engages the hook: every attention of the model that this thread runs goes to handler until
    the context is left. mask: makes the masks that handlers are given; None gives none."""
    configs, modules = _configs(model), rotary_modules(model)
    forwards = {id(module): rotary(_reading(module)) for module in modules}
    _borrow(configs, modules)
    token = _engagement.set(Engagement(handler, forwards, mask))
    try:
        yield
    finally:
        _engagement.reset(token)
        _give_back([*configs, *modules])


def _borrow(configs: list[Any], modules: list[nn.Module]) -> None:
    with _lending:
        # A parent's setting reaches its parts: all are read before any is set.
        new = [config for config in configs if id(config) not in _lent]
        for config in new:
            _lent[id(config)] = _Lent(config, config._attn_implementation)
        for config in new:
            config._attn_implementation = NAME
        for module in modules:
            if id(module) not in _lent:
                # None: the instance had no forward of its own, as when accelerate gives it one.
                _lent[id(module)] = _Lent(module, module.__dict__.get("forward"))
                module.forward = _ours(module, module.forward)
        for owner in (*configs, *modules):
            _lent[id(owner)].users += 1


def _give_back(owners: list[Any]) -> None:
    with _lending:
        for owner in owners:
            lent = _lent[id(owner)]
            lent.users -= 1
            if lent.users:
                continue
            del _lent[id(owner)]
            if not isinstance(owner, nn.Module):
                owner._attn_implementation = lent.before
            elif lent.before is None:
                owner.__dict__.pop("forward", None)
            else:
                owner.forward = lent.before
