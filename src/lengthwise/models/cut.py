"""A model of some of another's layers, which shares its weights.

The modules are new, so that layers can be renumbered and the original is not touched; parameters
and buffers are the original's own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence as Seq
from functools import partial, update_wrapper
from types import MethodType
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from lengthwise.errors import UnsupportedModel


def cut_model(model: PreTrainedModel, kept: Seq[int]) -> PreTrainedModel:
    """A transformers model of some of another's layers; raises UnsupportedModel where they cannot
    be told apart."""
    old = model.config
    config = copy.deepcopy(old)
    total = config.get_text_config().num_hidden_layers
    configs = {id(old): config, id(old.get_text_config()): config.get_text_config()}
    new: PreTrainedModel = _sharing(model, {}, configs)
    _cut(config.get_text_config(), total, kept)
    stacks = [
        (name.count("."), module, place)
        for name, module in new.named_modules()
        for place, child in module.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == total
    ]
    if not stacks:
        raise UnsupportedModel(str(config.model_type), "its layers stand in no list of their own")
    # The outermost stack: a layer's own lists, of experts say, may be as long.
    _, owner, place = min(stacks, key=lambda found: found[0])
    stack: Any = getattr(owner, place)
    setattr(owner, place, nn.ModuleList([stack[layer] for layer in kept]))
    for number, layer in enumerate(getattr(owner, place)):
        for module in layer.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                module.layer_idx = number
    return new


def _sharing(module: Any, done: dict[int, Any], configs: dict[int, PretrainedConfig]) -> Any:
    """A copy of a tree of modules whose parameters and buffers are those of the original."""
    if id(module) not in done:
        new = done[id(module)] = copy.copy(module)
        # Parameters by name, hooks and the like: what is added to one must not show in the other.
        tables = {k: copy.copy(v) for k, v in vars(module).items() if isinstance(v, dict | set)}
        new.__dict__.update(tables)
        new.__dict__["_modules"] = {
            name: None if child is None else _sharing(child, done, configs)
            for name, child in module._modules.items()
        }
        _rebind(new, module)
        if id(module.__dict__.get("config")) in configs:
            new.config = configs[id(module.config)]
    return done[id(module)]


def _rebind(new: Any, module: Any) -> None:
    """The forward that accelerate puts on a module, for its hooks, is bound to that module: a copy
    is given one of its own."""
    hooked, before = (new.__dict__.get(name) for name in ("forward", "_old_forward"))
    if isinstance(hooked, partial) and hooked.args and hooked.args[0] is module:
        mine = partial(hooked.func, new, *hooked.args[1:], **hooked.keywords)
        new.__dict__["forward"] = update_wrapper(mine, hooked)
    if isinstance(before, MethodType) and before.__self__ is module:
        new.__dict__["_old_forward"] = MethodType(before.__func__, new)


def _cut(config: PretrainedConfig, total: int, kept: Seq[int]) -> None:
    """Lists that have an item for each layer lose those of the layers that go."""
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == total:
            setattr(config, name, [value[layer] for layer in kept])
    config.num_hidden_layers = len(kept)
