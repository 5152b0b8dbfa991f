"""What listens to the modules of a model, or takes the place of their forwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_modules

from lengthwise.models import attention_hook


def hook_tables(modules: Iterable[nn.Module]) -> list[dict[int, Callable[..., Any]]]:
    """Where hooks of these modules' forwards are kept, and those of all modules."""
    found = [table for m in modules for table in (m._forward_hooks, m._forward_pre_hooks)]
    return [
        *found, torch_modules._global_forward_hooks, torch_modules._global_forward_pre_hooks
    ]  # fmt: skip


def own_tables(model: nn.Module) -> list[dict[str, Any]]:
    """Attributes of the modules, among which a forward of their own would be.

    Rotary modules are left out: the attention hook gives them one while it is engaged.
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
