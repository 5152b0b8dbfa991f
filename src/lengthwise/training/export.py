"""What a run leaves: a model that transformers loads, in its dtype and with its tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lengthwise._utils.files import ASIDE
from lengthwise._utils.own_files import exchange, files_in
from lengthwise.sequences.files import read_json, write_json
from lengthwise.training import checkpoint as checkpoints
from lengthwise.training.config import TrainingError
from lengthwise.training.model import DTYPES
from lengthwise.training.scale_network import is_part
from lengthwise.training.tokenizer_files import Files

ORIGIN = "trained.json"
"""Of which run and step a model is."""


def export(
    place: Path, model: nn.Module, weights: dict[str, torch.Tensor], files: Files, dtype: str,
    origin: dict[str, Any],
) -> None:  # fmt: skip
    """Puts the model into `place` in the place of one that was there; others' files stay.

    dtype: one of DTYPES. origin: what ORIGIN is to say. Raises TrainingError where the disk
    refuses, or another's file has a name of the model's; the model that was there stays then.
    """
    aside = place.with_name(place.name + ASIDE)
    shutil.rmtree(aside, ignore_errors=True)
    with checkpoints.said(place, aside):
        checkpoints.save_model(aside, model, _narrowed(model, weights, DTYPES[dtype]), files)
        _say_dtype(aside / "config.json", DTYPES[dtype])
        write_json(aside / ORIGIN, {**origin, "files": files_in(aside)})
        exchange(aside, place, ORIGIN, TrainingError)


def exported(place: Path) -> int | None:
    """The step that the model in `place` was left after, if there is one."""
    if not (place / ORIGIN).is_file():
        return None
    # Without a step it was being put there when the run was killed.
    step: int | None = read_json(place / ORIGIN).get("step")
    return step


def _narrowed(
    model: nn.Module, weights: dict[str, torch.Tensor], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    # Some families read some of their weights in float32 whatever the rest is.
    names = ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
    wide = {each for name in names for each in getattr(model, name, None) or ()}
    found: dict[str, torch.Tensor] = {}
    # Tied weights stay one.
    narrow: dict[int, torch.Tensor] = {}
    for key, value in weights.items():
        if value.is_floating_point() and not wide & set(key.split(".")) and not is_part(key):
            value = narrow.setdefault(value.data_ptr(), value.to(dtype))
        found[key] = value
    return found


def _say_dtype(path: Path, dtype: torch.dtype) -> None:
    """transformers writes down what the model is computed in, which is float32."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
