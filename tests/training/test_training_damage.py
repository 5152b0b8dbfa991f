"""Damaged files are named with what to do, and a full disk is called one and loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lengthwise.errors import LengthwiseError
from lengthwise.training import export
from lengthwise.training.config import TrainingError
from lengthwise.training.trainer import Trainer, train
from tests.training_runs import (
    GPT2,
    LLAMA,
    config,
    same_weights,
    stop,
)


@pytest.mark.parametrize(
    ("file", "harm", "why"),
    [
        ("optimizer.pt", b"", "it is empty"),
        ("optimizer.pt", 300, ""),
        ("optimizer.pt", None, "it is missing"),
        ("rng-0.pt", b"", "it is empty"),
        ("rng-0.pt", None, "it is missing"),
        ("state.json", b"", "it is empty"),
        ("state.json", b"[1]", "it is of something else"),
        ("model/model.safetensors", b"", "model.safetensors is empty"),
        ("model/model.safetensors", 3000, ""),
        ("model/model.safetensors", None, ""),
        ("model/config.json", b"{", ""),
    ],
)
@pytest.mark.parametrize("earlier", [True, False])
def test_a_damaged_file_is_named_with_what_to_do(
    place: Path, tmp_path: Path, file: str, harm: bytes | int | None, why: str, earlier: bool
) -> None:
    kept = place / "to-damage"
    if not kept.exists():
        stop(place, kept, 4, checkpoint={"every": 2}, model=GPT2)
    folder = shutil.copytree(kept, tmp_path / "run")
    last = folder / "checkpoints" / "step-00000004"
    if not earlier:
        shutil.rmtree(last.with_name("step-00000002"))
    target = last / file
    if harm is None:
        target.unlink()
    else:
        target.write_bytes(target.read_bytes()[:harm] if isinstance(harm, int) else harm)
    with pytest.raises(TrainingError) as refused:
        Trainer(config(place, out=str(folder), checkpoint={"every": 2}, model=GPT2))
    said = str(refused.value)
    assert said.startswith(f"{last / file.partition('/')[0]} is damaged (") and why in said
    assert "\n" not in said
    remedy = "to go on from step-00000002" if earlier else "to begin anew"
    assert f"delete the folder {last} {remedy}" in said
    if earlier:
        shutil.rmtree(last)
        assert train(config(place, out=str(folder), checkpoint={"every": 2}, model=GPT2)).step == 6


def test_an_empty_optimizer_is_not_called_interrupted(place: Path, tmp_path: Path) -> None:
    folder = stop(place, tmp_path / "run", 2)
    (folder / "checkpoints" / "step-00000002" / "optimizer.pt").write_bytes(b"")
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in LLAMA.items())
    (place / "empty.toml").write_text(
        f'out = "{folder}"\ntokens_per_step = 256\nsteps = 6\n[model]\n{settings}\n'
        '[data]\ntrain = "decompose"\nvalidation = "validation"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "lengthwise", "train", str(place / "empty.toml")],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "optimizer.pt is damaged (it is empty)" in done.stderr.splitlines()[-1]


class Full:
    """A disk that has no room for what torch, safetensors or Python write."""

    def __init__(self, patch: pytest.MonkeyPatch, who: str) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            if who == "torch":
                raise RuntimeError(
                    "PytorchStreamWriter failed writing file data/0: file write failed"
                )
            if who == "safetensors":
                from safetensors import SafetensorError

                raise SafetensorError("Error while serializing: I/O error: No space left on device "
                                      "(os error 28)")  # fmt: skip
            raise OSError(28, "No space left on device")

        if who == "torch":
            usage = shutil.disk_usage("/")
            patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=12345))
        patch.setattr(torch, "save", refuse)


@pytest.mark.parametrize("who", ["torch", "safetensors", "python"])
def test_a_full_disk_is_called_so_and_nothing_is_lost(
    place: Path, whole: Path, tmp_path: Path, who: str
) -> None:
    run = config(place, out=str(tmp_path / "run"), checkpoint={"every": 2})
    trainer = Trainer(run)
    for _ in range(2):
        trainer._step()
        trainer._records()
    trainer._checkpoint()
    with pytest.MonkeyPatch.context() as patch:
        Full(patch, who)
        with pytest.raises(
            TrainingError, match="step-00000004 cannot be written: the disk is full"
        ):
            trainer.run()
    names = [each.name for each in (tmp_path / "run" / "checkpoints").iterdir()]
    assert names == ["step-00000002"]
    train(run)
    assert same_weights(tmp_path / "run", whole)


def test_a_full_disk_while_the_model_is_left_loses_no_step(
    place: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config(place, out=str(tmp_path / "run"))
    with monkeypatch.context() as patch:

        def refuse(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(export, "_say_dtype", refuse)
        with pytest.raises(TrainingError, match="model cannot be written: the disk is full"):
            train(run)
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "model.aside").exists()
    before = (tmp_path / "run" / "log.jsonl").read_bytes()
    assert train(run).step == 6
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == before
    assert same_weights(tmp_path / "run", whole)


def test_a_full_disk_under_the_log_is_called_so(place: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("a device that is always full is Linux's")
    trainer = Trainer(config(place, out=str(tmp_path / "run")))
    assert trainer._log and trainer._log._file
    trainer._log._file.close()
    trainer._log._file = open("/dev/full", "ab")  # noqa: SIM115
    with pytest.raises(LengthwiseError, match="cannot be written: the disk is full"):
        trainer.run()
