"""The way in: load a model, or wrap one that is held already.

model = lengthwise.load()
print(model.generate("Once", recipe="yarn(factor=2) + lookup", max_new_tokens=64).text)
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lengthwise.api.connecting import PREFIX
from lengthwise.api.model import Model
from lengthwise.api.prefixes import bytes_of
from lengthwise.api.shown import require_model
from lengthwise.engine.kernels import choice
from lengthwise.engine.kernels.tuning import tune
from lengthwise.errors import LengthwiseError, ModelError
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.load import Provenance, load_pretrained
from lengthwise.models.placing import DeviceMap, MaxMemory

if TYPE_CHECKING:
    from lengthwise.api.support import Support


def load(
    name: str | PathLike[str] | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    kernel: str | None = None,
    pack: bool | None = None,
    device_map: DeviceMap | None = None,
    max_memory: MaxMemory | None = None,
    offload_folder: str | PathLike[str] | None = None,
    weights: str | None = None,
    cache_bytes: int | str = 0,
) -> Model:
    """Loads and adapts a model.

    Args:
        name: a local folder, a GGUF file or a hub name; None is the embedded SmolLM2-135M-Instruct.
        dtype: None is what the machine is fast at.
        device: None is the accelerator if there is one, else the CPU.
        kernel: which kernels serve its attention, "flash" or "block=rows,step=products" for
            instance; None is what was timed to be fastest on this machine (docs/machine.md).
        pack: hold weights a second time, packed for the products of a CPU in bfloat16; None where
            that was timed to pay, memory is there and the model is no larger than 4 GiB.
        device_map: places parts of the model on several devices, in CPU memory and on disk, in
            place of `device`: "auto", "balanced", "sequential", or a place by the name of a module
            (docs/large-models.md).
        max_memory: the most that "auto" and the like may use, by device: {0: "10GiB"}.
        offload_folder: takes weights on disk that cannot stay in the model's own files.
        weights: "int8" or "int4" holds the weights of linear layers in as many bits; None as they
            come (docs/machine.md). Not with a device_map.
        cache_bytes: KV of what prompts begin with is kept in as many bytes (2_000_000_000, "2GiB")
            and not read again (docs/sessions.md). 0 keeps none.

    Raises:
        ModelError: for a model that cannot be had, read or adapted.
        LengthwiseError: for a name that is no text and no path, and a kernel that is none.
    """
    if name is not None and not isinstance(name, (str, PathLike)):
        raise LengthwiseError(
            f"load of a {type(name).__name__}: give a folder, a GGUF file or a hub name; a model "
            "that you hold goes to lengthwise.wrap"
        )
    place = None if name is None else fspath(name)
    if place is not None and place.startswith(PREFIX):
        raise ModelError(
            f"{place} is behind a server, and this needs a model that runs here; `run`, `compare`, "
            "`write` and `label` ask servers, and lengthwise.connect opens one"
        )
    _require_kernel(kernel)
    bytes_of("cache_bytes", cache_bytes)
    model, tokenizer, provenance = load_pretrained(
        place, dtype, device, device_map, max_memory, offload_folder, weights
    )
    adapted = _tuned(adapt(model, tokenizer=tokenizer, pack=pack), kernel)
    return Model(adapted, tokenizer, provenance, cache_bytes)


def wrap(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None, fuse: bool = True,
    kernel: str | None = None, pack: bool | None = None, cache_bytes: int | str = 0,
) -> Model:  # fmt: skip
    """Adapts a model the user already holds; a context manager that gives it back as it was.

    What is done to the model later (weights, hooks, adapters) shows at the next request.

    Args:
        model: as transformers gives it, or in a wrapper of torch.compile, DataParallel or peft.
        tokenizer: the model's; without one, prompts are token ids.
        fuse: let Llama-shaped families run leaner.
        kernel, pack, cache_bytes: see `load`.

    Raises:
        UnsupportedModel: for a model that cannot be adapted.
        LengthwiseError: for what is no model or no tokenizer, and a kernel that is none.
    """
    require_model(model, tokenizer)
    _require_kernel(kernel)
    bytes_of("cache_bytes", cache_bytes)
    adapted = _tuned(adapt(model, fuse, tokenizer=tokenizer, pack=pack), kernel)
    name = str(getattr(adapted.model.config, "_name_or_path", "") or adapted.family)
    provenance = Provenance(name, adapted.dtype, adapted.device, "wrapped", adapted.trained_length)
    return Model(adapted, tokenizer, provenance, cache_bytes)


def _require_kernel(kernel: str | None) -> None:
    if kernel is not None and not isinstance(kernel, str):
        raise LengthwiseError(f"kernel={kernel!r}: give text, such as 'flash', or None")
    choice.read(kernel or "")


def _tuned(adapted: AdaptedModel, kernel: str | None) -> AdaptedModel:
    """Times what the model will need on this machine, where that is not known."""
    adapted.kernel = kernel
    with choice.using(kernel):
        tune(adapted)
    return adapted


def check(model: Model | PreTrainedModel) -> Support:
    """Which questions a model supports exactly, which are refused, and why.

    A model of transformers is wrapped first.

    Args:
        model: one that `load` or `wrap` gave, or one of transformers.

    Raises:
        UnsupportedModel: for a model of transformers that cannot be adapted.
    """
    return model.check() if isinstance(model, Model) else wrap(model).check()


__all__ = ["check", "load", "wrap"]
