"""Checkpoints that are there whole or not at all, and hold all that the next step depends on.

A checkpoint is a folder: `model/`, which transformers loads as it is; `optimizer.pt`; `rng-N.pt`
for each rank; `state.json`. It is written under another name and renamed when every byte is on the
disk, so kill -9 at any moment leaves the one before.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from lengthwise.sequences.files import ASIDE, said_plainly
from lengthwise.training.config import TrainingError
from lengthwise.training.model import quiet
from lengthwise.training.parallel import Ranks

_NAME = re.compile(r"step-(\d{8})")


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in `folder`, if there is one."""
    return next(iter(_newest_first(folder)), None)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What `save` was given as `state`. Raises TrainingError for a damaged one."""
    try:
        found: dict[str, Any] = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{checkpoint} is damaged ({error}): delete it to go on from the one "
                            "before") from error  # fmt: skip
    return found


def save(
    folder: Path, step: int, state: dict[str, Any], model: nn.Module, optimizer: Optimizer,
    ranks: Ranks, keep: int,
) -> Path:  # fmt: skip
    """Writes the checkpoint after `step` steps and deletes all but the latest `keep`.

    All ranks call it together. Raises SequenceError where the disk refuses.
    """
    place = folder / f"step-{step:08d}"
    if place.exists():
        # The same step of the same run: there is nothing else that it could hold.
        return place
    aside = place.with_name(place.name + ASIDE)
    weights = ranks.model_state(model)
    averages = ranks.optimizer_state(model, optimizer)
    if ranks.first:
        with said(place):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
    ranks.wait()
    with said(place):
        torch.save(_chance(), aside / f"rng-{ranks.rank}.pt")
        if ranks.first:
            save_model(aside / "model", ranks.plain(model), weights)
            torch.save(averages, aside / "optimizer.pt")
            (aside / "state.json").write_text(json.dumps(state | {"ranks": ranks.world}))
    ranks.wait()
    if ranks.first:
        with said(place):
            _flush(aside)
            os.replace(aside, place)
        for old in _newest_first(folder)[keep:]:
            shutil.rmtree(old, ignore_errors=True)
    ranks.wait()
    return place


def save_model(folder: Path, model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Writes weights and config as transformers reads them."""
    with quiet():
        cast(PreTrainedModel, model).save_pretrained(folder, state_dict=weights)


def restore_optimizer(
    checkpoint: Path, model: nn.Module, optimizer: Optimizer, ranks: Ranks
) -> None:
    """Gives the optimizer of `model` the state that it had."""
    state = torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
    ranks.set_optimizer_state(model, optimizer, state)


def restore_chance(checkpoint: Path, ranks: Ranks) -> bool:
    """Puts every random generator where it was; False if this rank did not exist then."""
    place = checkpoint / f"rng-{ranks.rank}.pt"
    if not place.exists():
        return False
    found = torch.load(place, weights_only=True)
    random.setstate(found["python"])
    name, words, *rest = found["numpy"]
    np.random.set_state((name, np.array(words, np.uint32), *rest))
    torch.set_rng_state(found["torch"])
    if "cuda" in found and torch.cuda.is_available():
        torch.cuda.set_rng_state(found["cuda"])
    return True


def sweep(folder: Path) -> None:
    """Deletes what a killed run left half-written."""
    for each in folder.glob(f"step-*{ASIDE}"):
        shutil.rmtree(each, ignore_errors=True)


@contextmanager
def said(place: Path) -> Iterator[None]:
    """`said_plainly`, also of the errors that torch and safetensors have for a full disk."""
    try:
        with said_plainly(place):
            yield
    except (RuntimeError, SafetensorError) as error:
        raise TrainingError(
            f"{place} cannot be written: {str(error).splitlines()[0]}; the checkpoint before it "
            "stays: mend that and run the same command again to go on"
        ) from error


def _chance() -> dict[str, Any]:
    name, words, *rest = np.random.get_state()
    found: dict[str, Any] = {
        "python": random.getstate(), "torch": torch.get_rng_state(),
        # As plain numbers: a file that only numbers are read from can run no code.
        "numpy": (name, np.asarray(words).tolist(), *rest),
    }  # fmt: skip
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state()
    return found


def _newest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((each for each in folder.iterdir() if _NAME.fullmatch(each.name)), reverse=True)


def _flush(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
