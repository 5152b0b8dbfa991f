"""Whether a model is still what it was when a forward of our own was made from it.

A watch is taken of every module: its children and parameters, the hooks on it, a forward of its
own, and where the weights lie that were copied or joined. Asking costs about a hundredth of a
decoding step, so it is asked at each forward; it does not say what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_modules

from lengthwise.models import attention_hook
from lengthwise.models.dropout import dropping
from lengthwise.models.products import Stamp, unmoved


class Watch:
    """What a model was when the watch was taken. stamps: of the weights joined or copied."""

    def __init__(self, model: nn.Module, stamps: list[Stamp]) -> None:
        modules = list(model.modules())
        self._hooks = hook_tables(modules)
        self._hook_count = sum(map(len, self._hooks))
        self._own = own_tables(model)
        self._tables = [t for m in modules for t in (m._modules, m._parameters) if t]
        self._entries = list(_values(self._tables))
        self._ids = list(map(id, self._entries))
        self._modules = modules
        self._kinds = list(map(type, modules))
        self._classes: list[Any] = list(set(self._kinds))
        self._forwards = [kind.forward for kind in self._classes]
        self._scaled = [m for m in modules if "scaling" in vars(m)]
        self._scalings = [m.scaling for m in self._scaled]
        self._dropping = [m for m in modules if dropping(m)]
        self._stamps = stamps

    def same(self) -> bool:
        """Whether modules, parameters, hooks and weights are those of then."""
        return (
            sum(map(len, self._hooks)) == self._hook_count
            and list(map(id, _values(self._tables))) == self._ids
            and not any("forward" in table for table in self._own)
            and list(map(type, self._modules)) == self._kinds
            and [kind.forward for kind in self._classes] == self._forwards
            and [module.scaling for module in self._scaled] == self._scalings
            and not any(module.training for module in self._dropping)
            and unmoved(self._stamps)
        )


def _values(tables: Iterable[dict[str, Any]]) -> Iterable[Any]:
    return chain.from_iterable(map(dict.values, tables))


def hook_tables(modules: Iterable[nn.Module]) -> list[dict[int, Callable[..., Any]]]:
    """Where hooks of these modules' forwards are kept, and those of all modules."""
    found = [table for m in modules for table in (m._forward_hooks, m._forward_pre_hooks)]
    return [
        *found, torch_modules._global_forward_hooks, torch_modules._global_forward_pre_hooks
    ]  # fmt: skip


def own_tables(model: nn.Module) -> list[dict[str, Any]]:
    """Attributes of the modules, among which a forward of their own would be.

    Rotary modules are left out: the seam gives them one while it is engaged.
    """
    rotary = set(map(id, attention_hook.rotary_modules(model)))
    return [vars(module) for module in model.modules() if id(module) not in rotary]


def undisturbed(model: nn.Module) -> bool:
    """Whether nobody listens to or changes what passes through the modules of a model."""
    hooks = chain.from_iterable(map(dict.values, hook_tables(model.modules())))
    return all(map(_idle, hooks)) and not any("forward" in table for table in own_tables(model))


def _idle(hook: Callable[..., Any]) -> bool:
    """Hooks that transformers leaves on its layers; they act only in calls that ask for them."""
    return getattr(hook, "__module__", "") == "transformers.utils.output_capturing"
