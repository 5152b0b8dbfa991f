"""What stands between a model as users hold it and ours: taken off, run around, or refused by name.

Models come in wrappers (torch.compile, DataParallel, peft), with weights elsewhere (accelerate),
in training mode, under autocast. Each is asked for, so that none ends as a difference of logits
that nobody can explain.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lengthwise._utils.messages import first_line
from lengthwise.architectures import WORD_TYPES
from lengthwise.errors import UnsuitableModel, UnsupportedModel
from lengthwise.models.dropout import dropping
from lengthwise.models.layer_facts import LayerFacts

# Wrappers that hand their input on unchanged, by the name under which they hold the model.
_WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module",
             "DistributedDataParallel": "module"}  # fmt: skip
_SHARDED = ("FullyShardedDataParallel", "DeepSpeedEngine")
# Where autocast may be on.
DEVICES = ("cpu", "cuda", "mps", "xpu")
# Of logits that later tokens moved, as a share of their spread: more than rounding does.
_MOVED = 0.05


def adaptable(model: Any) -> PreTrainedModel:
    """The transformers model in what `wrap` was given, if nothing about it stands in our way.

    Raises UnsuitableModel with the reason and what to do.
    """
    inner = _unwrapped(model)
    if inner.config.model_type in WORD_TYPES:
        raise UnsuitableModel(
            inner.config.model_type,
            "it reads words or merged tokens, and recipes are for models that read tokens",
            "call it by transformers; for recipes take a family such as llama",
        )
    if inner.get_output_embeddings() is None:
        raise UnsuitableModel(
            _family(inner),
            f"{type(inner).__name__} has no head that gives logits of the next token",
            "load it with AutoModelForCausalLM",
        )
    _refuse_places(inner)
    _refuse_ranges(inner)
    refuse_dropout(inner)
    return inner


def _family(model: PreTrainedModel) -> str:
    return str(model.config.get_text_config().model_type)


# Wrappers.


def _unwrapped(model: Any) -> PreTrainedModel:
    kind = type(model).__name__
    if kind in _SHARDED:
        raise UnsuitableModel(
            kind, "its weights are in shards, whole in no process", "gather them into a model first"
        )
    if kind in _WRAPPERS and isinstance(model, nn.Module):
        return _unwrapped(getattr(model, _WRAPPERS[kind]))
    if isinstance(model, PreTrainedModel):
        return model
    if not isinstance(model, nn.Module) or not hasattr(model, "peft_config"):
        raise UnsuitableModel(
            kind,
            "it is no model of transformers",
            "give what AutoModelForCausalLM.from_pretrained returns, or a name or folder to "
            "lengthwise.load",
        )
    return _without_peft(model)


def _without_peft(model: Any) -> PreTrainedModel:
    """The model inside peft's, which holds the adapters, where it computes the same."""
    # Of a mixed model no single adapter is the active one.
    active: Any = getattr(model, "active_peft_config", None)
    named = getattr(active, "peft_type", type(model).__name__)
    kind = str(getattr(named, "value", named))
    held = getattr(model, "get_base_model", lambda: model.base_model.model)
    inner = _unwrapped(held())
    if getattr(active, "is_prompt_learning", False):
        raise UnsuitableModel(
            _family(inner),
            f"peft's {kind} puts {active.num_virtual_tokens} virtual tokens before every text, "
            "which have no ids and no positions here",
            "wrap model.get_base_model() to run without them, or train LoRA instead",
        )
    if getattr(active, "alora_invocation_tokens", None):
        raise UnsuitableModel(
            _family(inner),
            "peft's activated LoRA (aLoRA) looks for the token it begins at in each whole input, "
            "and what is fed here are parts",
            "train plain LoRA instead",
        )
    if not _alike(model, inner):
        raise UnsuitableModel(
            _family(inner),
            f"peft's {kind} does more than its layers do: the model inside it gives other logits",
            "merge it first (merge_and_unload), or use one that lives in the layers alone (LoRA)",
        )
    return inner


@torch.no_grad()
def _alike(outer: Any, inner: PreTrainedModel) -> bool:
    """Whether a wrapper only hands on: it gives the very logits of what is inside."""
    refuse_dropout(inner)
    ids = torch.arange(8, device=device_of(inner))[None] % _vocabulary(inner)
    whole, alone = (each(input_ids=ids, use_cache=False).logits for each in (outer, inner))
    return torch.equal(whole, alone)


def _vocabulary(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().vocab_size)


# Where weights are.


def device_of(model: PreTrainedModel) -> torch.device:
    """Where a model computes; its weights may wait elsewhere (accelerate's offload)."""
    if model.device.type != "meta":
        return model.device
    for module in model.modules():
        for hook in _hooks_of_accelerate(module):
            device = _runs_on(hook)
            if device is not None:
                return device
    return model.device


def devices_of(model: PreTrainedModel) -> list[torch.device]:
    """Every device that parts of a model compute on, that of the first weight first."""
    found = {device_of(model): None}
    for module in model.modules():
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        found.update((t.device, None) for t in tensors if not t.is_meta)
        places = map(_runs_on, _hooks_of_accelerate(module))
        found.update((place, None) for place in places if place is not None)
    return list(found)


def _runs_on(hook: Any) -> torch.device | None:
    """Where a hook of accelerate has its module compute."""
    device = getattr(hook, "execution_device", None)
    if device is None or str(device) == "meta":
        return None
    # A number is that of an accelerator.
    return torch.empty(0, device=device).device


def _hooks_of_accelerate(module: nn.Module) -> list[Any]:
    hook = getattr(module, "_hf_hook", None)
    return list(getattr(hook, "hooks", [hook]))


def quantised(model: PreTrainedModel) -> bool:
    """Whether weights are held in fewer bits than the model computes with, by whatever library."""
    if getattr(model.config, "quantization_config", None) is not None:
        return True
    return any(type(weight) is not nn.Parameter for weight in model.parameters())


@torch.no_grad()
def settle(model: PreTrainedModel) -> None:
    """Has a quantised model do what its library leaves to the first forward (unpacking, another
    layout of weights), while nothing of ours is in the way.

    Raises UnsuitableModel where that fails.
    """
    if not quantised(model):
        return
    try:
        model(input_ids=torch.full((1, 1), 3, device=device_of(model)), use_cache=False)
    except Exception as error:  # Of libraries that only run elsewhere.
        raise UnsuitableModel(
            _family(model),
            f"its own forward fails in {str(model.dtype).removeprefix('torch.')} on "
            f"{device_of(model)} ({type(error).__name__}: {first_line(error)})",
            "try another dtype or device",
        ) from error


def at_hand(module: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """A weight or buffer of a module; one that accelerate keeps elsewhere is read from there."""
    for hook in _hooks_of_accelerate(module) if tensor.is_meta else ():
        held = getattr(hook, "weights_map", None)
        if held is not None:
            found: Tensor = held[name]
            return found
    return tensor


def _refuse_places(model: PreTrainedModel) -> None:
    """Refuses weights that cannot be had where they are used."""
    for name, module in model.named_modules():
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        offloaded = any(getattr(hook, "offload", False) for hook in _hooks_of_accelerate(module))
        if any(tensor.is_meta for tensor in tensors) and not offloaded:
            raise UnsuitableModel(
                _family(model),
                f"{name or 'the model'} is on the meta device, where weights have no values",
                "load them first (from_pretrained)",
            )


def _refuse_ranges(model: PreTrainedModel) -> None:
    """Refuses layers whose result for one token depends on the tokens read with it."""
    if any(".quantized.dynamic" in type(module).__module__ for module in model.modules()):
        raise UnsuitableModel(
            _family(model),
            "int8 activations of quantize_dynamic share one range over all tokens of a forward, so "
            "chunks, batches and guesses would change what a token gets",
            "quantise its weights alone, or activations token by token (torchao)",
        )


# What may be there at one request and gone at the next.


def refuse_dropout(model: PreTrainedModel) -> None:
    """Refuses a model in training mode in which something is drawn at random."""
    for name, module in model.named_modules():
        if module.training and (found := dropping(module)):
            raise UnsuitableModel(
                _family(model),
                f"{name or type(module).__name__} is in training mode with {found}, so no two "
                "forwards agree",
                "call model.eval() first",
            )


def state_of(model: PreTrainedModel) -> dict[str, Any]:
    """What a model was adapted as, of which our own facts and tables are made."""
    config = model.config.get_text_config()
    return {
        "dtype": model.dtype,
        "device": device_of(model),
        "sliding_window": getattr(config, "sliding_window", None),
        "num_hidden_layers": getattr(config, "num_hidden_layers", None),
    }


def refuse_moved(model: PreTrainedModel, before: dict[str, Any]) -> None:
    """Refuses a model that is no longer what it was when it was adapted."""
    now = state_of(model)
    if now != before:
        name = next(name for name in before if now[name] != before[name])
        raise UnsuitableModel(
            _family(model),
            f"its {name} was {before[name]} when it was adapted and is {now[name]} now",
            "wrap it again",
        )


def refuse_changed(model: PreTrainedModel, facts: LayerFacts | None, info: dict[str, Any]) -> None:
    """Refuses an attention that is not the one that was asked when the model was adapted.

    Called from within the model's forward. facts: of the layer; None where it was none of those.
    info: what it hands to its attention.
    """
    if any(map(torch.is_autocast_enabled, DEVICES)):
        raise UnsuitableModel(
            _family(model),
            "its own forward turns autocast on (accelerate's mixed precision, say)",
            "give it without (accelerator.unwrap_model(model, keep_fp32_wrapper=False))",
        )
    if facts is None:
        raise UnsuitableModel(
            _family(model), "its layers are not those that were adapted", "wrap it again"
        )
    if not _as_before(facts, info):
        raise UnsuitableModel(
            _family(model),
            f"the scaling, cap or sinks of layer {facts.index} are not those that were adapted",
            "wrap it again",
        )


def _as_before(facts: LayerFacts, info: dict[str, Any]) -> bool:
    scaling, sinks = info.get("scaling"), info.get("s_aux")
    if scaling is not None and float(scaling) != facts.scaling:
        return False
    if info.get("softcap") != facts.softcap or (sinks is None) != (facts.sinks is None):
        return False
    if sinks is None or facts.sinks is None or sinks.data_ptr() == facts.sinks.data_ptr():
        return True
    # Offloaded ones lie elsewhere each time.
    return torch.equal(sinks, facts.sinks)


@torch.no_grad()
def refuse_two_ways(model: PreTrainedModel) -> None:
    """Refuses a model in which earlier tokens read later ones: what its logits say when asked."""
    ids = torch.arange(3, 11, device=device_of(model)) % _vocabulary(model)
    other = ids.clone()
    other[-1] = (ids[-1] + 1) % _vocabulary(model)
    logits: Tensor = model(input_ids=torch.stack([ids, other]), use_cache=False).logits.float()
    moved = (logits[0, :-1] - logits[1, :-1]).abs().max()
    if moved > _MOVED * logits.std():
        raise UnsupportedModel(
            _family(model),
            "earlier tokens read later ones (its attention looks both ways), so what was read "
            "cannot be kept; only causal models are adapted",
        )


@contextmanager
def no_autocast() -> Iterator[None]:
    """Computes in the dtypes that tensors have; a context, or a decorator.

    Autocast would cast some of our products and not others, so what is asked of a model is what it
    gives outside of it.
    """
    with ExitStack() as stack:
        for kind in DEVICES:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Runs compiled modules as they were written: their graphs have their own attention in them."""
    with ExitStack() as stack:
        if any(_compiled(module) for module in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def _compiled(module: nn.Module) -> bool:
    return module._compiled_call_impl is not None or type(module).__name__ == "OptimizedModule"


__all__ = [
    "adaptable", "as_written", "at_hand", "device_of", "devices_of", "no_autocast", "quantised",
    "refuse_changed", "refuse_dropout", "refuse_moved", "refuse_two_ways", "settle", "state_of",
]  # fmt: skip
