"""The way in: load a model, or wrap one that is held already.

model = lengthwise.load()
print(model.generate("Once", recipe="yarn(factor=2) + lookup", max_new_tokens=64).text)
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lengthwise.api.model import Model
from lengthwise.api.shown import require_model
from lengthwise.errors import LengthwiseError
from lengthwise.models.adapt import adapt
from lengthwise.models.load import Provenance, load_pretrained

if TYPE_CHECKING:
    from lengthwise.api.support import Support


def load(
    name: str | PathLike[str] | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> Model:
    """Loads and adapts a model.

    Args:
        name: a local folder, a GGUF file or a hub name; None is the embedded SmolLM2-135M-Instruct.
        dtype: None is what the machine is fast at.
        device: None is the accelerator if there is one, else the CPU.

    Raises:
        ModelError: for a model that cannot be had, read or adapted.
        LengthwiseError: for a name that is no text and no path.
    """
    if name is not None and not isinstance(name, (str, PathLike)):
        raise LengthwiseError(
            f"load of a {type(name).__name__}: give a folder, a GGUF file or a hub name; a model "
            "that you hold goes to lengthwise.wrap"
        )
    place = None if name is None else fspath(name)
    model, tokenizer, provenance = load_pretrained(place, dtype, device)
    return Model(adapt(model, tokenizer=tokenizer), tokenizer, provenance)


def wrap(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None, fuse: bool = True
) -> Model:
    """Adapts a model the user already holds; a context manager that gives it back as it was.

    What is done to the model later (weights, hooks, adapters) shows at the next request.

    Args:
        model: as transformers gives it, or in a wrapper of torch.compile, DataParallel or peft.
        tokenizer: the model's; without one, prompts are token ids.
        fuse: let Llama-shaped families run leaner. In bf16 on a CPU that holds a packed copy of the
            weights beside the model's own; False saves that memory.

    Raises:
        UnsupportedModel: for a model that cannot be adapted.
        LengthwiseError: for what is no model, or no tokenizer.
    """
    require_model(model, tokenizer)
    adapted = adapt(model, fuse, tokenizer=tokenizer)
    name = str(getattr(adapted.model.config, "_name_or_path", "") or adapted.family)
    provenance = Provenance(name, adapted.dtype, adapted.device, "wrapped", adapted.trained_length)
    return Model(adapted, tokenizer, provenance)


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
