"""Reads trained draft heads as their authors publish them.

A checkpoint is a folder or a hub repository with a configuration and one file of weights. No method
of its own: what Medusa's and EAGLE's have in common.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Hashable, Sequence as Seq
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from lengthwise._utils.messages import first_line
from lengthwise.errors import ModelError
from lengthwise.models.adapted_model import AdaptedModel

Made = TypeVar("Made")
# What was made of so many checkpoints is kept for a model, the latest.
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """name: as given. config: of config.json. weights: tensors by their published names."""

    name: str
    config: dict[str, Any]
    weights: dict[str, Tensor]

    def need(self, key: str, shape: Seq[int]) -> Tensor:
        """The tensor of that name. Raises ModelError where it is missing or of another shape."""
        found = self.weights.get(key)
        if found is None:
            raise ModelError(f"{self.name}: its weights have no {key!r}; is this a checkpoint of "
                             "another kind?")  # fmt: skip
        if tuple(found.shape) != tuple(shape):
            raise ModelError(
                f"{self.name}: {key} has shape {tuple(found.shape)} and this model wants "
                f"{tuple(shape)}: the checkpoint was trained for another model"
            )
        return found


def read_checkpoint(name: str, files: Seq[str]) -> Checkpoint:
    """The checkpoint in a folder, or of a hub name: config.json and the first of `files` that is
    there. Raises ModelError."""
    folder = Path(os.path.expanduser(name))
    config = _find(name, folder, ["config.json"])
    path = _find(name, folder, files)
    try:
        weights = (
            load_file(path) if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )  # fmt: skip
        values = json.loads(config.read_text(encoding="utf-8"))
    except Exception as error:  # of safetensors, of pickle, of JSON, of the file system
        reason = first_line(error)
        raise ModelError(f"{name}: its files are damaged or of another kind ({reason})") from error
    if not isinstance(values, dict) or not isinstance(weights, dict):
        raise ModelError(f"{name}: config.json or {path.name} holds no names with values")
    return Checkpoint(name, values, {k: v for k, v in weights.items() if isinstance(v, Tensor)})


class KeptByModel(Generic[Made]):
    """Makes what guesses of a checkpoint, and keeps it as long as the model lives.

    It is kept by the model of transformers, so another wrapping of that finds it again.
    """

    def __init__(
        self, files: Seq[str], make: Callable[[Checkpoint, AdaptedModel], Made]
    ) -> None:  # fmt: skip
        """files: names of the weights. make: it must not hold the model itself."""
        self._files, self._make = files, make
        self._made: WeakKeyDictionary[PreTrainedModel, dict[Hashable, Made]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def __call__(self, path: str, model: AdaptedModel) -> Made:
        """What a folder or hub name holds for a model. Raises ModelError."""
        key = path, model.device, model.dtype, model.vocab_size
        with self._lock:
            own = self._made.setdefault(model.model, {})
            found = own.pop(key, None)
            if found is None:
                found = self._make(read_checkpoint(path, self._files), model)
            own[key] = found
            if len(own) > KEPT:
                del own[next(iter(own))]
        return found


def _find(name: str, folder: Path, files: Seq[str]) -> Path:
    if folder.is_dir():
        found = next((folder / file for file in files if (folder / file).is_file()), None)
        if found is None:
            raise ModelError(f"{name}: the folder has no {' or '.join(files)}")
        return found
    # The hub's client comes with transformers; it is asked only here.
    from huggingface_hub import hf_hub_download

    reason = ""
    for file in files:
        try:
            return Path(hf_hub_download(name, file))
        except Exception as error:  # of the client, of its HTTP client, of a name that is none
            reason = first_line(error)
    raise ModelError(
        f"{name!r}: no such folder here, and {' or '.join(files)} is not to be had from the hub "
        f"({reason})"
    )


__all__ = ["Checkpoint", "KeptByModel", "read_checkpoint"]
