"""Encoders in files: one safetensors file, there whole or not at all.

Its header says the format, the version, the method with its options, the model's fingerprint and
dtype, and how it was trained; its tensors are the encoder's weights in the model's dtype. The
model's own embeddings are not in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lengthwise._utils.files import write_aside
from lengthwise._utils.messages import first_line
from lengthwise._utils.suggestions import nearest
from lengthwise._utils.version import __version__
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.methods.calibration import fingerprint_now
from lengthwise.methods.options import options
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.soft_contexts.base import SOFT_CONTEXTS, Encoder, SoftContext

KEY = "lengthwise encoder"
"""Of the header, under which all that is no tensor stands as JSON."""
VERSION = 1


class EncoderError(LengthwiseError):
    """An encoder cannot be stored or opened: why, and what to do."""


def save_encoder(
    path: str | PathLike[str], encoder: Encoder, how: SoftContext, trained: Mapping[str, Any]
) -> None:
    """Stores an encoder, written aside and renamed.

    Args:
        path: of the file.
        encoder: its weights are rounded to the model's dtype.
        how: the method that started it.
        trained: how it was trained, as plain data.

    Raises:
        EncoderError: where the disk refuses.
    """
    model = encoder.model
    said = {
        "version": VERSION, "library": __version__, "method": how.name,
        "options": {each.name: getattr(how, each.name) for each in options(type(how))},
        "family": model.family, "fingerprint": fingerprint_now(model), "dtype": model.dtype_text,
        "trained": dict(trained),
    }  # fmt: skip
    weights = {
        name: each.detach().to("cpu", model.dtype).contiguous()
        for name, each in encoder.named_parameters()
    }
    try:
        with write_aside(path) as aside:
            save_file(weights, aside, metadata={KEY: json.dumps(said)})
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"{os.fspath(path)}: cannot be written ({first_line(error)})") from None


@torch.inference_mode(False)
def load_encoder(
    path: str | PathLike[str], model: AdaptedModel
) -> tuple[Encoder, SoftContext, dict[str, Any]]:
    """An encoder that was stored, in the model's dtype, its method, and how it was trained.

    Args:
        path: of the file.
        model: that it was trained for, in the same dtype.

    Raises:
        EncoderError: for a file that is missing, damaged or something else, and for one of another
            model, dtype or version.
        RecipeError: for a method that there is not.
    """
    name = os.fspath(path)
    if not Path(path).is_file():
        raise EncoderError(f"{name}: there is no such file; `lengthwise soft train` writes one")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise EncoderError(
                    f"{name}: holds no encoder of soft contexts; `lengthwise soft train` writes one"
                )
            said = json.loads(metadata[KEY])
            _require_ours(name, said, model)
            how = method_of(str(said["method"]))(**said["options"])
            encoder = how.start(model)
            _put(encoder, {key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
            return encoder, how, dict(said["trained"])
    except LengthwiseError:
        raise
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise EncoderError(
            f"{name}: is damaged ({first_line(error)}); put it back, or train it again"
        ) from None


def method_of(name: str) -> type[SoftContext]:
    """The class of a soft context.

    Args:
        name: as users write it.

    Raises:
        RecipeError: where there is none of that name, or it cannot be used.
    """
    found = SOFT_CONTEXTS.get(name)
    if found is None:
        raise RecipeError(f"unknown soft context {name!r}{nearest(name, list(SOFT_CONTEXTS))}")
    return found


def _require_ours(name: str, said: dict[str, Any], model: AdaptedModel) -> None:
    if said["version"] != VERSION:
        raise EncoderError(
            f"{name}: is of format version {said['version']}, written by lengthwise "
            f"{said.get('library')}, and this one reads version {VERSION}; train it again"
        )
    if said["dtype"] != model.dtype_text:
        raise EncoderError(
            f"{name}: was trained for a model in {said['dtype']}, and this one runs in "
            f"{model.dtype_text}; load the model in that dtype"
        )
    if said["fingerprint"] != fingerprint_now(model):
        raise EncoderError(
            f"{name}: was trained for a {said['family']} model of other weights; load that model, "
            "or train an encoder for this one"
        )


def _put(encoder: Encoder, weights: dict[str, torch.Tensor]) -> None:
    """Gives an encoder weights, in their own dtype; raises ValueError for those of another."""
    own = dict(encoder.named_parameters())
    if own.keys() != weights.keys():
        raise ValueError("it has other weights than its method")
    for key, each in own.items():
        if each.shape != weights[key].shape or not bool(weights[key].isfinite().all()):
            raise ValueError(f"{key} is of another shape, or no numbers")
        each.data = weights[key].to(each.device)
        each.requires_grad_(False)


__all__ = [
    "KEY", "VERSION", "EncoderError", "load_encoder", "method_of", "save_encoder",
]  # fmt: skip
