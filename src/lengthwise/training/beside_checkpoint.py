"""What training beside a model goes on from: one safetensors file, there whole or not at all.

It holds what is trained in float32, a cartridge's keys and values or an encoder's weights, Adam's
two averages of each, and in its header the step, the bytes of the log and which run it is of. The
model's weights never change, so they are not in it, which is why it is not one of `checkpoint.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import Adam

from lengthwise._utils.messages import first_line
from lengthwise.sequences.files import written_aside
from lengthwise.training.config import TrainingError

FORMAT = "lengthwise training beside a model"
NAME = "checkpoint.safetensors"
_AVERAGES = ("exp_avg", "exp_avg_sq")


class Trained(Protocol):
    """What is trained beside a model: its parameters, always in the same order."""

    @property
    def trained(self) -> Iterable[nn.Parameter]: ...


def save(
    folder: Path, prefix: Trained, optimizer: Adam, step: int, log_bytes: int, run: str
) -> None:
    """Stores what the next step depends on.

    Args:
        folder: of the run.
        prefix: what is trained.
        optimizer: of its parameters, after at least one step.
        step: steps that are done.
        log_bytes: of the log up to here.
        run: which run it is.

    Raises:
        LengthwiseError: where the disk refuses.
    """
    tensors = {}
    for number, parameter in enumerate(prefix.trained):
        tensors[f"value.{number}"] = parameter.detach()
        for name in _AVERAGES:
            tensors[f"{name}.{number}"] = optimizer.state[parameter][name]
    said = {"step": step, "log_bytes": log_bytes, "run": run}
    with written_aside(folder / NAME) as aside:
        save_file(tensors, aside, metadata={"format": FORMAT, "state": json.dumps(said)})


def restore(folder: Path, prefix: Trained, optimizer: Adam, run: str) -> tuple[int, int]:
    """Puts prefix and optimizer where they were.

    Args:
        folder: of the run.
        prefix: as it was when the run began.
        optimizer: of its parameters.
        run: which run it has to be.

    Returns:
        Steps that are done, and bytes of the log up to there; 0 and 0 without a checkpoint.

    Raises:
        TrainingError: for one that is damaged or of another run.
    """
    place = folder / NAME
    if not place.exists():
        return 0, 0
    try:
        with safe_open(place, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError("it is of something else")
            said = json.loads(metadata["state"])
            if said["run"] != run:
                raise ValueError("it is of another run")
            step, log_bytes = int(said["step"]), int(said["log_bytes"])
            for number, parameter in enumerate(prefix.trained):
                held = [file.get_tensor(f"{name}.{number}") for name in ("value", *_AVERAGES)]
                if any(t.shape != parameter.shape or t.dtype != torch.float32 for t in held):
                    raise ValueError("it has other shapes")
                value, *averages = (t.to(parameter.device) for t in held)
                with torch.no_grad():
                    parameter.copy_(value)
                optimizer.state[parameter] = {"step": torch.tensor(float(step))} | dict(
                    zip(_AVERAGES, averages, strict=True)
                )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TrainingError(
            f"{place} is damaged ({first_line(error)}): put it back, or delete it to train anew on "
            "the same pairs"
        ) from None
    return step, log_bytes


__all__ = ["restore", "save"]
