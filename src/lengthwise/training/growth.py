"""G_stack: a deeper model whose layers are copies of a shallow one's, in the middle of a run.

Du et al., "Stacking Your Transformers: A Closer Look at Model Growth for Efficient LLM
Pre-Training", NeurIPS 2024, arXiv:2405.15319.

Train few layers briefly. Then set layer j of the deep model to layer j mod n of the n shallow ones;
embeddings, final norm and head are copied. Four times as many layers were best. The whole stack
repeats (0 1 0 1), since doubling each layer in place (0 0 1 1) was found to be weaker. The function
of the model changes: the loss jumps and then falls faster.

The authors train the deep model as one that begins: with a fresh optimizer, and with a schedule of
its own whose warm-up comes again. Both are the default. The shallow one follows the schedule of a
whole run and is taken from its early part. Alternatives: averages copied to each copy of a layer,
and a schedule that goes on.

When to grow: take a deep model of N parameters that is to read D tokens, with C = 6 N D. The
authors found this number d of tokens for the shallow one:

    log10 d = 0.88 log10 N + 163.27 / log10 C - 5.74
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from lengthwise._utils.papers import Paper
from lengthwise.errors import LengthwiseError
from lengthwise.training.config import RunConfig, TrainingError
from lengthwise.training.schedules import learning_rate

PAPER = Paper(
    "Stacking Your Transformers: A Closer Look at Model Growth for Efficient LLM Pre-Training",
    "Du et al.",
    2024,
    arxiv="2405.15319",
    venue="NeurIPS",
    code="https://github.com/tongxuluo/prts",
)
Value = TypeVar("Value")


def layers_of(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The name and list of a transformers model's layers. Raises TrainingError if not just one."""
    count = _config(model).num_hidden_layers
    found = [
        (name, module) for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]  # fmt: skip
    # A list inside a layer may have as many members as there are layers.
    outer = [each for each in found if not any(each[0].startswith(f"{n}.") for n, _ in found)]
    if len(outer) != 1:
        raise TrainingError(
            f"family {_config(model).model_type!r} has {len(outer)} lists of {count} layers, where "
            "one is needed: leave growth and parallel.shard out, or take another family"
        )
    return outer[0]


def stack(
    model: nn.Module, factor: int, state: Mapping[str, Tensor] | None = None
) -> PreTrainedModel:
    """A new model of `factor` times as many layers, stacked.

    state: the weights of `model` by name, where it does not hold them whole.
    """
    name, layers = layers_of(model)
    count = len(layers)
    config = copy.deepcopy(_config(model))
    for key, value in vars(config).items():
        # One entry a layer, such as layer_types.
        if isinstance(value, list) and len(value) == count and key != "architectures":
            setattr(config, key, value * factor)
    config.num_hidden_layers = count * factor
    dtype = next(model.parameters()).dtype
    grown: PreTrainedModel = AutoModelForCausalLM.from_config(
        config, dtype=dtype, attn_implementation=_config(model)._attn_implementation
    )
    weights = dict(model.state_dict() if state is None else state)
    with torch.no_grad():
        grown.load_state_dict(stacked(weights, name, count, factor, lambda t: t.detach().clone()))
    grown.to(next(model.parameters()).device)  # type: ignore[arg-type]
    return grown


def stacked(
    values: Mapping[str, Value], name: str, count: int, factor: int,
    copied: Callable[[Value], Value] = copy.deepcopy,
) -> dict[str, Value]:  # fmt: skip
    """Values by weight name, those of layer i of `count` also as i + count, i + 2 count, ..."""
    found: dict[str, Value] = {}
    for key, value in values.items():
        if not key.startswith(f"{name}."):
            found[key] = value
            continue
        number, _, rest = key[len(name) + 1 :].partition(".")
        for layer in range(int(number), count * factor, count):
            found[f"{name}.{layer}.{rest}"] = copied(value)
    return found


def rate_of(config: RunConfig, steps: int) -> Callable[[int], float]:
    """The learning rate of the 0-based step of a run of `steps` steps, growth included.

    Raises LengthwiseError, before the first step, for a schedule that cannot be.
    """
    schedule, growth = config.schedule, config.growth
    at, again = growth.at_step, growth.warmup_steps

    def over(total: int, warmup: int) -> Callable[[int], float]:
        return learning_rate(
            schedule.name, total_steps=total, tokens_per_step=config.tokens_per_step,
            peak=config.optimizer.lr, warmup_steps=warmup, decay_steps=schedule.decay_steps,
            floor=schedule.floor, shape=schedule.shape,
        )  # fmt: skip

    whole = over(steps, schedule.warmup_steps)
    if at >= steps:
        raise TrainingError(f"growth.at_step={at} is not within {steps} steps")
    if not at:
        return whole
    if growth.schedule == "kept":
        rising = again or 0
        return lambda n: whole(n) * (min(1.0, (n - at + 1) / rising) if rising and n >= at else 1.0)
    try:
        anew = over(steps - at, schedule.warmup_steps if again is None else again)
    except LengthwiseError as error:
        raise TrainingError(
            f"after growth.at_step={at} the schedule begins anew: {error}; give "
            'growth.warmup_steps, or growth.schedule = "kept"'
        ) from error
    return lambda n: whole(n) if n < at else anew(n - at)


def _config(model: nn.Module) -> Any:
    return model.config
