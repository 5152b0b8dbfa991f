"""Checkpoints that are there whole or not at all, and hold all that the next step depends on.

A checkpoint is a folder: `model/`, which transformers loads as it is; `optimizer.pt`; `rng-N.pt`
for each rank; `state.json`. It is written under another name and renamed when every byte is on the
disk, so kill -9 at any moment leaves the one before.
"""

from __future__ import annotations

import json
import os
import pickle
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

from lengthwise._utils.files import ASIDE, flush
from lengthwise._utils.messages import first_line
from lengthwise.errors import LengthwiseError
from lengthwise.sequences.files import why_not
from lengthwise.training.config import TrainingError
from lengthwise.training.model import load_weights, quiet
from lengthwise.training.parallel import Ranks
from lengthwise.training.scale_network import apart
from lengthwise.training.tokenizer_files import Files, written

_NAME = re.compile(r"step-(\d{8})")
_STATE = {"step", "tokens", "elapsed", "log_bytes", "interval", "ranks"}
_FULL = 1 << 24
"""Bytes left on a disk that refused what is larger."""


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in `folder`, if there is one."""
    return next(iter(_newest_first(folder)), None)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What `save` was given as `state`. Raises TrainingError for a damaged one."""
    with _whole(checkpoint, "state.json"):
        found: dict[str, Any] = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        if not isinstance(found, dict) or _STATE - found.keys():
            raise ValueError("it is of something else")
    return found


def read_model(checkpoint: Path, attention: str) -> PreTrainedModel:
    """The model as it was. Raises TrainingError for damaged files."""
    with _whole(checkpoint, "model"):
        return load_weights(checkpoint / "model", attention)


@contextmanager
def _whole(checkpoint: Path, name: str) -> Iterator[None]:
    """Turns whatever a damaged file leads to into one line: which file, and how to go on."""
    place = checkpoint / name
    try:
        yield
    except (LengthwiseError, OSError, EOFError, ValueError, KeyError, RuntimeError,
            pickle.UnpicklingError) as error:  # fmt: skip
        empty = place.is_file() and not place.stat().st_size
        why = "it is empty" if empty else first_line(error)
        if isinstance(error, FileNotFoundError):
            why = "it is missing"
        before = [each for each in _newest_first(checkpoint.parent) if each.name < checkpoint.name]
        remedy = f"to go on from {before[0].name}" if before else "to begin anew, as it is the only"
        raise TrainingError(
            f"{place} is damaged ({why}): put it back, or delete the folder {checkpoint} {remedy}"
        ) from error


def save(
    folder: Path, step: int, state: dict[str, Any], model: nn.Module, optimizer: Optimizer,
    ranks: Ranks, keep: int, files: Files,
) -> Path:  # fmt: skip
    """Writes the checkpoint after `step` steps and deletes all but the latest `keep`.

    files: of the tokenizer, which go with the model. All ranks call it together.
    Raises TrainingError where the disk refuses; what was written until then is taken away.
    """
    place = folder / f"step-{step:08d}"
    if place.exists():
        # The same step of the same run: there is nothing else that it could hold.
        return place
    aside = place.with_name(place.name + ASIDE)
    weights = ranks.model_state(model)
    averages = ranks.optimizer_state(model, optimizer)
    if ranks.first:
        with said(place, aside):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
    ranks.wait()
    with said(place, aside):
        torch.save(_chance(), aside / f"rng-{ranks.rank}.pt")
        if ranks.first:
            save_model(aside / "model", ranks.plain(model), weights, files)
            torch.save(averages, aside / "optimizer.pt")
            (aside / "state.json").write_text(json.dumps(state | {"ranks": ranks.world}))
    ranks.wait()
    if ranks.first:
        with said(place, aside):
            flush(aside)
            os.replace(aside, place)
        for old in _newest_first(folder)[keep:]:
            shutil.rmtree(old, ignore_errors=True)
    ranks.wait()
    return place


def save_model(
    folder: Path, model: nn.Module, weights: dict[str, torch.Tensor], files: Files
) -> None:
    """Writes weights, config and the files of the tokenizer as transformers reads them."""
    own, network = apart(model, weights)
    with quiet():
        cast(PreTrainedModel, model).save_pretrained(folder, state_dict=own)
    written(folder, {**files, **network})


def restore_optimizer(
    checkpoint: Path, model: nn.Module, optimizer: Optimizer, ranks: Ranks
) -> None:
    """Gives the optimizer of `model` the state that it had."""
    with _whole(checkpoint, "optimizer.pt"):
        state = torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
        ranks.set_optimizer_state(model, optimizer, state)


def restore_chance(checkpoint: Path, ranks: Ranks) -> None:
    """Puts every random generator where it was. Raises TrainingError for a damaged file."""
    place = f"rng-{ranks.rank}.pt"
    with _whole(checkpoint, place):
        found = torch.load(checkpoint / place, weights_only=True)
        random.setstate(found["python"])
    name, words, *rest = found["numpy"]
    np.random.set_state((name, np.array(words, np.uint32), *rest))
    torch.set_rng_state(found["torch"])
    if "cuda" in found and torch.cuda.is_available():
        torch.cuda.set_rng_state(found["cuda"])


def sweep(folder: Path) -> None:
    """Deletes what a killed run left half-written."""
    for each in folder.glob(f"step-*{ASIDE}"):
        shutil.rmtree(each, ignore_errors=True)


@contextmanager
def said(place: Path, aside: Path) -> Iterator[None]:
    """Turns a disk that refuses into one line, whatever torch and safetensors call it.

    aside: what is being written for `place`, of which nothing stays.
    """
    try:
        yield
    except LengthwiseError:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    except (OSError, RuntimeError, SafetensorError) as error:
        why = why_not(error) if isinstance(error, OSError) else first_line(error)
        # torch says that it could not write, and not why.
        left = free(aside)
        if "disk is full" not in why and (left < _FULL or "os error 28" in why):
            why = f"the disk is full ({left / 1e6:,.1f} MB are left)"
        shutil.rmtree(aside, ignore_errors=True)
        before = latest(aside.parent) or latest(aside.parent / "checkpoints")
        stays = f"{before.name} stays" if before else "there is no checkpoint before it"
        raise TrainingError(
            f"{place} cannot be written: {why}; {stays}: mend that and run the same command again "
            "to go on"
        ) from error


def free(path: Path) -> int:
    """Bytes left on the disk of a path that may not be there yet."""
    return shutil.disk_usage(next(each for each in (path, *path.parents) if each.exists())).free


def size_of(parameters: int) -> int:
    """Bytes of a checkpoint, nearly: weights and two averages of each, in float32."""
    return 3 * 4 * parameters


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
