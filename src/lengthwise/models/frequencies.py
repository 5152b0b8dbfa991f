"""The rotary frequencies that a model would use by itself, for a text of any length.

Most models have one set of them. Two rope types of transformers choose by the length n of the text
at hand: `longrope` has short factors up to `original_max_position_embeddings` and long ones beyond,
`dynamic` raises its base with every token beyond `max_position_embeddings`. Stock modules do so by
writing into themselves during a forward, so what they answer depends on who asked before. Here a
private copy is put back to its first state and asked for each length once: the user's module is
neither written to nor listened to.
"""

from __future__ import annotations

import copy
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Sets of a `dynamic` model that are kept: one for each length that was asked for of late.
KEPT = 64


@dataclass(frozen=True, eq=False)
class Frequencies:
    """inv_freq float32 `[pairs]`, which nobody changes; scaling: what cos and sin are multiplied
    by."""

    inv_freq: Tensor
    scaling: float


class OwnFrequencies:
    """What one rotary module holds, by layer type (None where it takes no layer type) and length.

    Safe to be asked by several threads.
    """

    def __init__(self, module: nn.Module) -> None:
        self._first = first_state(module)
        self._found: OrderedDict[tuple[str | None, int], Frequencies] = OrderedDict()
        self._lock = threading.Lock()
        # The forward without the decorator that lets lengths change the module.
        self._forward: Callable[..., tuple[Tensor, Tensor]] = inspect.unwrap(type(module).forward)

    def switch(self, layer_type: str | None) -> int | None:
        """The longest text read with the first set of frequencies; None where there is only one
        set."""
        rope_type = _rope_type(self._first, layer_type)
        if rope_type == "longrope":
            parameters = self._first.config.rope_parameters  # type: ignore[union-attr]
            own: Any = parameters if layer_type is None else parameters[layer_type]  # type: ignore[index]
            if list(own["short_factor"]) == list(own["long_factor"]):
                return None
            return int(own["original_max_position_embeddings"])
        if "dynamic" in rope_type:
            return int(self._first.original_max_seq_len)  # type: ignore[arg-type]
        return None

    def rope_type(self, layer_type: str | None) -> str:
        """What transformers calls the rule."""
        return _rope_type(self._first, layer_type)

    def grows(self, layer_type: str | None) -> bool:
        """Whether every token beyond the switch changes the frequencies again."""
        return self.switch(layer_type) is not None and "dynamic" in _rope_type(
            self._first, layer_type
        )

    def phase(self, layer_type: str | None, length: int) -> int:
        """A number that is the same for lengths with the same frequencies, 0 up to the switch."""
        switch = self.switch(layer_type)
        if switch is None or length <= switch:
            return 0
        return length if self.grows(layer_type) else 1

    def at(self, layer_type: str | None, length: int) -> Frequencies:
        """What stock computes for one pass over a text of `length` tokens."""
        phase = self.phase(layer_type, length)
        key = layer_type, phase
        with self._lock:
            if key not in self._found:
                self._found[key] = self._ask(layer_type, length if phase else 1)
                if len(self._found) > KEPT:
                    self._found.popitem(last=False)
            return self._found[key]

    def cos_sin(
        self, layer_type: str | None, used: Frequencies, positions: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """The family's cos and sin `[n, columns]` of positions `[n]` (any real numbers)."""
        # A stand-in for the module: nothing is written anywhere.
        stand_in = _StandIn(self._first, {
            f"{_prefix(layer_type)}inv_freq": used.inv_freq,
            f"{_prefix(layer_type)}attention_scaling": used.scaling,
        })  # fmt: skip
        # Only the dtype and device of what stands for the hidden states matter.
        x = torch.empty(0, dtype=dtype, device=positions.device)
        extra = () if layer_type is None else (layer_type,)
        cos, sin = self._forward(stand_in, x, positions.reshape(1, -1), *extra)
        return cos.reshape(positions.numel(), -1), sin.reshape(positions.numel(), -1)

    def _ask(self, layer_type: str | None, length: int) -> Frequencies:
        asked = self._first
        if self.switch(layer_type) is not None:
            asked = _copied(self._first)
            device = next(asked.buffers()).device
            last = torch.tensor([[length - 1]], device=device)
            extra = () if layer_type is None else (layer_type,)
            type(asked).forward(asked, torch.empty(0, device=device), last, *extra)
        inv_freq = getattr(asked, f"{_prefix(layer_type)}inv_freq").detach().float()
        scaling = getattr(asked, f"{_prefix(layer_type)}attention_scaling", 1.0)
        return Frequencies(inv_freq.clone(), float(scaling))


class _StandIn:
    """A module's attributes, some of them replaced."""

    def __init__(self, module: nn.Module, replaced: dict[str, Any]) -> None:
        self.__dict__.update(replaced, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)


def _prefix(layer_type: str | None) -> str:
    return "" if layer_type is None else f"{layer_type}_"


def _rope_type(module: Any, layer_type: str | None) -> str:
    own = getattr(module, "rope_type", "default")
    return str(own.get(layer_type, "default") if isinstance(own, dict) else own)


def _copied(module: nn.Module) -> nn.Module:
    """A copy whose buffers are its own; the configuration, which is only read, is shared."""
    config = getattr(module, "config", None)
    new: nn.Module = copy.deepcopy(module, {id(config): config})
    return new


def first_state(module: nn.Module) -> nn.Module:
    """A private copy of the module as it was when it was made."""
    bare: Any = copy.copy(module)
    for name in ("forward", "_old_forward", "_hf_hook"):
        # What an instance carries of its own: the hook's forward, or one that moves weights about.
        bare.__dict__.pop(name, None)
    bare.__dict__["_forward_hooks"] = OrderedDict()
    bare.__dict__["_forward_pre_hooks"] = OrderedDict()
    first: Any = copy.deepcopy(bare)
    rope_type = getattr(first, "rope_type", "default")
    for layer_type in rope_type if isinstance(rope_type, dict) else [None]:
        prefix, own = _prefix(layer_type), _rope_type(first, layer_type)
        if own != "longrope" and "dynamic" not in own:
            continue
        setattr(first, f"{prefix}inv_freq", getattr(first, f"{prefix}original_inv_freq").clone())
        for grown in (f"{prefix}long_inv_freq", f"{prefix}max_seq_len_cached"):
            first.__dict__.pop(grown, None)
        first.max_seq_len_cached = first.original_max_seq_len
    made: nn.Module = first
    return made
