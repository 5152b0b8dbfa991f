"""A model of some of another's layers, which shares its weights: what guesses where layers do, and
how those layers are written.

The modules are new, so that layers can be renumbered and the original is not touched; parameters
and buffers are the original's own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence as Seq
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from lengthwise.errors import RecipeError, Refused, UnsupportedModel
from lengthwise.methods.drafting.guessing_models import LOCK, adapt_guesser
from lengthwise.models.adapt import Adapted


def thinned(model: Adapted, kept: tuple[int, ...]) -> Adapted:
    """The model with only the kept layers, whose parameters are the same tensors; made once.

    It is not held against a stock model of these layers, for it only guesses. Raises Refused where
    a family's layers cannot run without the others.
    """
    with LOCK:
        known = _THINNED.setdefault(model, {})
        if kept not in known:
            try:
                fuse = model.fast is not None
                known[kept] = adapt_guesser(thinned_model(model.model, kept), fuse)
            except UnsupportedModel as error:
                raise Refused(
                    f"some layers of this {model.family!r} model cannot guess for all of them: "
                    f"{error.reason}",
                    "use a drafter that needs no model, such as lookup or recycling",
                ) from error
        return known[kept]


_THINNED: WeakKeyDictionary[Adapted, dict[tuple[int, ...], Adapted]] = WeakKeyDictionary()


def thinned_model(model: PreTrainedModel, kept: Seq[int]) -> PreTrainedModel:
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
        if id(module.__dict__.get("config")) in configs:
            new.config = configs[id(module.config)]
    return done[id(module)]


def _cut(config: PretrainedConfig, total: int, kept: Seq[int]) -> None:
    """Lists that have an item for each layer lose those of the layers that go."""
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == total:
            setattr(config, name, [value[layer] for layer in kept])
    config.num_hidden_layers = len(kept)


def kept_layers(keep: str, model: Adapted) -> tuple[int, ...]:
    """The layers an option names, ascending: numbers and ranges from 0, or how many of the first
    and the last as a number or a share. Raises RecipeError where there are none such."""
    total = len(model.layers)
    if keep.endswith("%") or keep.isdecimal():
        return _ends(_count(keep, total), total)
    return tuple(sorted(numbers(keep, total)))


def _count(text: str, total: int) -> int:
    """How many layers a number or a share means."""
    if text.isdecimal() and 1 <= int(text) <= total:
        return int(text)
    share = text.removesuffix("%")
    if text.endswith("%") and share.isdecimal() and 1 <= int(share) <= 100:
        return max(1, round(int(share) * total / 100))
    raise RecipeError(f"layers(keep={text}): allowed is 1 to {total} layers, or 1% to 100%")


def _ends(count: int, total: int) -> tuple[int, ...]:
    """The first and the last layers, as many of either."""
    first = (count + 1) // 2
    return *range(first), *range(total - count + first, total)


def numbers(text: str, total: int) -> set[int]:
    """The layers of a list such as `0-5,24-29`."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise RecipeError(
                f'layers: {part.strip()!r} is no layer and no range; write "0-5,{total - 1}"'
            )
        ends = int(first), int(last) if dash else int(first)
        if not ends[0] <= ends[1] < total:
            raise RecipeError(
                f"layers: {part.strip()} is not among the layers 0 to {total - 1} of this model"
            )
        found.update(range(ends[0], ends[1] + 1))
    return found


__all__ = ["kept_layers", "numbers", "thinned", "thinned_model"]
