"""Folders that hold an adapter of peft and name the model it belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from lengthwise._utils.messages import first_line
from lengthwise.errors import ModelError
from lengthwise.models.obstacles import adaptable

CONFIG = "adapter_config.json"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model of its own."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(folder: Path) -> str:
    """The model an adapter belongs to: a folder, which may be named from the adapter's own, or a
    hub name.

    Raises:
        ModelError: where peft is missing, or the folder names no model.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ModelError(f"{folder}: an adapter of peft, which is missing: pip install peft") from (
            error
        )
    try:
        said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        name = said.get("base_model_name_or_path") if isinstance(said, dict) else None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder / CONFIG}: cannot be read ({first_line(error)})") from error
    if not isinstance(name, str) or not name.strip():
        raise ModelError(
            f"{folder / CONFIG}: it names no base_model_name_or_path, the model it is an adapter of"
        )
    beside = folder / name
    return str(beside) if not Path(name).is_dir() and beside.is_dir() else name


def with_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model with the adapter of a folder in its layers, not merged.

    Raises:
        UnsuitableModel: for an adapter that does not live in layers.
        ModelError: for one that cannot be read.
    """
    from peft import PeftModel

    if any(weight.is_meta for weight in model.parameters()):
        raise ModelError(
            f"{folder}: parts of its model wait in CPU memory or on disk, where peft puts no "
            "adapter; merge it (merge_and_unload) and save that, or give a device_map of devices"
        )
    try:
        adapted: Any = PeftModel.from_pretrained(model, str(folder))
    except Exception as error:  # Whatever peft, safetensors or a mismatch of shapes raises.
        raise ModelError(f"{folder}: this adapter cannot be put into its model "
                         f"({first_line(error)})") from error  # fmt: skip
    return adaptable(adapted.eval())


__all__ = ["base_of", "is_adapter", "with_adapter"]
