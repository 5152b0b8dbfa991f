"""A run's folder: bound by a step, held by one process, gone on with by what may change."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lengthwise.errors import LengthwiseError
from lengthwise.training.config import TrainingError
from lengthwise.training.trainer import Trainer, train
from tests.training_runs import (
    LLAMA,
    Watching,
    config,
    log_of,
    same_weights,
    stop,
)

# What a folder is bound by


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": {"family": "lama"}},
        {"model": LLAMA | {"hidden_size": 33}},
        {"model": LLAMA | {"num_attention_heads": 0}},
        {"model": {"checkpoint": "nowhere"}},
        {"data": {"train": "nothing"}},
        {"data": {"train": "decompose", "validation": "nothing"}},
        {"tokens_per_step": 100},
        {"schedule": {"warmup_steps": 50}},
        {"growth": {"at_step": 9}},
    ],
)
def test_a_run_that_could_not_be_set_up_leaves_nothing(
    place: Path, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(LengthwiseError):
        Trainer(config(place, out=str(tmp_path / "runs" / "one"), **wrong))
    assert not (tmp_path / "runs").exists()


def test_a_misspelt_family_can_be_mended(place: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(TrainingError, match="did you mean 'llama'"):
        Trainer(config(place, out=str(tmp_path / "run"), model={"family": "lama"}))
    assert train(config(place, out=str(tmp_path / "run"), steps=1)).step == 1


@pytest.mark.parametrize("how", ["raises", "interrupted", "dropped"])
def test_a_run_without_a_step_does_not_bind_its_folder(
    place: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    trainer = Trainer(config(place, out=str(out)))
    if how == "raises":
        next(trainer.model.parameters()).data.fill_(float("nan"))
        with pytest.raises(TrainingError, match="not finite"):
            trainer.run()
    elif how == "interrupted":
        monkeypatch.setattr(trainer, "_stopped", lambda came: True)
        assert trainer.run().step == 0
    del trainer
    if how != "dropped":
        assert not out.exists()
    assert train(config(place, out=str(out), steps=1, optimizer={"lr": 1e-4})).step == 1


def test_a_step_binds_the_folder_and_all_that_differs_is_said(place: Path, tmp_path: Path) -> None:
    stop(place, tmp_path / "run", 2)
    with pytest.raises(
        TrainingError, match=r"optimizer.lr=0.003 and not 0.1, seed=0 and not 1: set it back"
    ):
        Trainer(config(place, out=str(tmp_path / "run"), optimizer={"lr": 0.1}, seed=1))


def test_a_log_with_steps_binds_without_a_checkpoint(place: Path, tmp_path: Path) -> None:
    folder = stop(place, tmp_path / "run", 2)
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(TrainingError, match="optimizer.lr=0.003 and not 0.1"):
        Trainer(config(place, out=str(folder), optimizer={"lr": 0.1}))
    assert train(config(place, out=str(folder))).step == 6


@pytest.mark.parametrize("left", [b"", b'{"kind": "ru'])
def test_a_run_killed_in_its_first_record_does_not_bind(
    place: Path, tmp_path: Path, left: bytes
) -> None:
    folder = stop(place, tmp_path / "run", 2)
    shutil.rmtree(folder / "checkpoints")
    (folder / "log.jsonl").write_bytes(left)
    assert train(config(place, out=str(folder), steps=1, seed=3)).step == 1


def test_checkpoints_of_a_run_that_nobody_knows_are_not_gone_on_with(
    place: Path, tmp_path: Path
) -> None:
    folder = stop(place, tmp_path / "run", 2)
    for damage, said in ((b"", "run.json cannot be read"), (b"{}", "run.json is damaged"),
                         (None, "holds something else than a run")):  # fmt: skip
        if damage is None:
            (folder / "run.json").unlink()
        else:
            (folder / "run.json").write_bytes(damage)
        with pytest.raises(LengthwiseError, match=said):
            Trainer(config(place, out=str(folder), seed=3))


def test_a_folder_of_the_version_before_is_gone_on_with(place: Path, tmp_path: Path) -> None:
    folder = stop(place, tmp_path / "run", 2)
    now = json.loads((folder / "run.json").read_text())
    before = {key: value for key, value in now.items() if key not in (
        "checksums", "planned_steps", "earlier_ends")}  # fmt: skip
    before |= {"steps": 6, "tokens": None, "epochs": None, "accumulate": 1}
    before["model"] = now["model"] | {"attention": "sdpa"}
    before["data"] = {"train": "decompose", "validation": "validation",
                      "checksum": now["checksums"]["data.train"]}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(before))
    state = folder / "checkpoints" / "step-00000002" / "state.json"
    kept = json.loads(state.read_text())
    new = ("planned_steps", "accumulate", "attention", "export_dtype")
    state.write_text(json.dumps({key: kept[key] for key in kept if key not in new}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (state.parent / "model" / name).unlink()
    with pytest.raises(TrainingError, match="6 steps and not 9"):
        Trainer(config(place, out=str(folder), steps=9))
    assert train(config(place, out=str(folder))).step == 6
    assert (folder / "model" / "tokenizer.json").is_file()
    assert json.loads((folder / "run.json").read_text()) == now


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_is_no_run_is_left_alone(place: Path, tmp_path: Path, what: str) -> None:
    thesis = tmp_path / "run" / "thesis.txt" if what == "folder" else tmp_path / "run"
    thesis.parent.mkdir(exist_ok=True)
    thesis.write_text("mine")
    with pytest.raises(TrainingError, match="holds something else than a run|is a file"):
        Trainer(config(place, out=str(tmp_path / "run")))
    assert thesis.read_text() == "mine"


# One process at a time


def test_two_trains_in_one_folder_are_refused_and_a_killed_one_lets_go(
    place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code = f"""
import time
from pathlib import Path
from lengthwise.training.trainer import Trainer
from training_runs import config
trainer = Trainer(config(Path({str(place)!r}), out={str(out)!r}, checkpoint={{"every": 1}}))
trainer._step(); trainer._records(); trainer._checkpoint()
print("holding", flush=True)
time.sleep(600)
"""
    here = Path(__file__).parents[1]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(here.parent / "src"), str(here.parent), str(here)])
    }
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert holder.stdout and holder.stdout.readline() == "holding\n"
        before = (out / "log.jsonl").read_bytes()
        for _ in range(2):
            with pytest.raises(LengthwiseError, match=f"another train is at work in {out}"):
                Trainer(config(place, out=str(out), checkpoint={"every": 1}))
        assert (out / "log.jsonl").read_bytes() == before
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    folder = train(config(place, out=str(out), checkpoint={"every": 1})).folder
    steps = [each["step"] for each in log_of(folder) if each["kind"] == "train"]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_refused_second_train_takes_nothing_away_from_the_first(
    place: Path, tmp_path: Path
) -> None:
    first = Trainer(config(place, out=str(tmp_path / "run")))
    with pytest.raises(LengthwiseError, match="another train is at work"):
        Trainer(config(place, out=str(tmp_path / "run"), optimizer={"lr": 1.0}))
    assert first.run().step == 6


# What may change


def moved(place: Path, tmp_path: Path) -> dict[str, Any]:
    shutil.copytree(place / "decompose", tmp_path / "elsewhere")
    return {"data": {"train": str(tmp_path / "elsewhere"), "validation": "validation"}}


FREE: dict[str, Any] = {
    "log": {"log": {"every": 2, "plot_every": 0}},
    "attention": {"model": LLAMA | {"attention": "eager"}},
    "accumulate": {"accumulate": 2},
    "tokens": {"tokens": 6 * 256 + 100},
    "moved": moved,
    "checkpoints": {"checkpoint": {"every": 1, "keep": 5}},
    "no validation": {"data": {"train": "decompose"}},
}


@pytest.mark.parametrize("what", FREE)
def test_what_changes_no_number_may_change(
    place: Path, whole: Path, tmp_path: Path, what: str
) -> None:
    folder = stop(place, tmp_path / "run", 3)
    change = FREE[what](place, tmp_path) if callable(FREE[what]) else FREE[what]
    table = {"out": str(folder)} | change
    progress = Watching()
    train(config(place, **table), progress)
    found, wanted = (load_file(each / "model" / "model.safetensors") for each in (folder, whole))
    assert all(torch.allclose(found[key], wanted[key], atol=1e-5) for key in wanted)
    if what not in ("attention", "accumulate"):
        assert same_weights(folder, whole)
    differ = [each for each in progress.said if each.endswith("will differ")]
    said = {"attention": "model.attention=eager instead of sdpa: the last digits will differ",
            "accumulate": "accumulate=2 instead of 1: dropout, if any, and the last digits will "
                          "differ"}  # fmt: skip
    assert differ == ([said[what]] if what in said else [])


def test_data_of_another_checksum_is_told_from_the_same(place: Path, tmp_path: Path) -> None:
    folder = stop(place, tmp_path / "run", 3)
    for key, other in (
        ("data.train", {"train": "small", "validation": "validation"}),
        ("data.validation", {"train": "decompose", "validation": "concat"}),
    ):
        with pytest.raises(TrainingError, match=f"{key} is not the data that the run in"):
            Trainer(config(place, out=str(folder), data=other))


def test_a_domain_that_was_swapped_is_told_from_the_same(place: Path, tmp_path: Path) -> None:
    def described(data: str) -> dict[str, Any]:
        domains = {"capitals": {"data": data, "weight": 0.5}}
        return {"epochs": 1, "upsampling": {"share": 0.5, "domains": domains}}

    folder = stop(place, tmp_path / "run", 2, **described("domain"))
    with pytest.raises(TrainingError, match=r"upsampling\.domains\.capitals\.data is not the data"):
        Trainer(config(place, out=str(folder), **described("decompose")))
    shutil.copytree(place / "domain", tmp_path / "moved")
    assert Trainer(config(place, out=str(folder), **described(str(tmp_path / "moved")))).done == 2


def test_rows_that_were_overwritten_are_noticed_whatever_their_size_and_time(
    place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place / "decompose", tmp_path / "data")
    data = {"train": str(tmp_path / "data")}
    folder = stop(place, tmp_path / "run", 3, data=data)
    shard = sorted((tmp_path / "data").rglob("*.parquet"))[1]
    times, content = shard.stat(), bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(TrainingError, match=f"{shard} is not the file that its data set was built"):
        Trainer(config(place, out=str(folder), data=data))
    shard.unlink()
    with pytest.raises(TrainingError, match=f"{shard} is not the file"):
        Trainer(config(place, out=str(folder), data=data))
