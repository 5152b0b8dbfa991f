"""A run that is stopped, killed or spread over ranks ends where an undisturbed one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from lengthwise.cli.train import TrainingBar, train as train_verb
from lengthwise.training import checkpoint
from lengthwise.training.trainer import Trainer, train
from tests.training_runs import GPT2, Watching, build_sets, config, log_of

# Dropout, growth, accumulation, records of several steps: all that a resumed run could get wrong.
HARD: dict[str, Any] = {
    "model": GPT2, "steps": 9, "accumulate": 2, "log": {"every": 4, "plot_every": 0},
    "growth": {"at_step": 6, "factor": 2, "optimizer": "copied"},
    "evaluation": {"every": 3, "documents": 6}, "checkpoint": {"every": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sets(tmp_path_factory.mktemp("resumed"))


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    return train(config(place, out="whole", **HARD)).folder


def assert_equal_runs(one: Path, other: Path) -> None:
    assert log_of(one) == log_of(other)
    weights = [load_file(folder / "model" / "model.safetensors") for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    last = [checkpoint.latest(folder / "checkpoints") for folder in (one, other)]
    states = [torch.load(str(each / "optimizer.pt"))["state"] for each in last if each]
    assert states[0].keys() == states[1].keys()
    for key, values in states[0].items():
        assert all(torch.equal(values[name], states[1][key][name]) for name in values)
    chances = [torch.load(str(each / "rng-0.pt")) for each in last if each]
    assert torch.equal(chances[0]["torch"], chances[1]["torch"])


def test_an_interrupted_run_goes_on_bit_for_bit(place: Path, whole: Path) -> None:
    run = config(place, out="interrupted", **HARD)
    stopped = train(run, Watching(4))
    assert (stopped.step, stopped.signal) == (4, signal.SIGINT)
    # A finer stop, in the middle of a record and just before the growth.
    trainer = Trainer(run)
    assert (trainer.done, trainer.tokens) == (4, 4 * 256)
    trainer.steps = 6
    trainer._step()
    trainer._checkpoint(now=True)
    trainer.close()
    progress = Watching()
    assert train(run, progress).signal is None
    assert "going on after step 5 of 9" in progress.said
    assert_equal_runs(whole, place / "interrupted")


def test_a_run_killed_while_it_writes_a_checkpoint_goes_on_bit_for_bit(
    place: Path, whole: Path
) -> None:
    code = f"""
import os, signal, torch
from pathlib import Path
torch.set_num_threads({torch.get_num_threads()})
from lengthwise.cli.train import TrainingBar, train as train_verb
from lengthwise.training import checkpoint
from lengthwise.training.trainer import train
from training.test_training_resume import HARD
from training_runs import config
flush = checkpoint.flush
def dying(folder):
    if "step-00000008" in str(folder):
        os.kill(os.getpid(), signal.SIGKILL)
    flush(folder)
checkpoint.flush = dying
train(config(Path({str(place)!r}), out="killed", **HARD))
"""
    assert python(["-c", code]).returncode == -signal.SIGKILL
    folder = place / "killed"
    names = sorted(each.name for each in (folder / "checkpoints").iterdir())
    assert names == ["step-00000004", "step-00000006", "step-00000008.aside"]
    assert log_of(folder)[-1]["step"] == 8
    train(config(place, out="killed", **HARD))
    names = sorted(each.name for each in (folder / "checkpoints").iterdir())
    assert names == ["step-00000008", "step-00000009"]
    assert_equal_runs(whole, folder)


def test_ctrl_c_leaves_a_checkpoint_one_line_and_status_130(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "run.toml").write_text(
        'out = "ctrl-c"\ntokens_per_step = 256\nsteps = 6\n[data]\ntrain = "concat"\n'
        '[model]\nfamily = "gpt2"\nn_embd = 32\nn_layer = 1\nn_head = 2\n[log]\nevery = 1\n'
    )
    monkeypatch.setattr(TrainingBar, "step", Watching(2).step)
    done = CliRunner().invoke(train_verb, [str(place / "run.toml")], standalone_mode=False)
    assert done.return_value == 130
    assert done.stderr.splitlines()[-1] == (
        "lengthwise: interrupted after step 2 of 6; the same command goes on"
    )
    assert checkpoint.latest(place / "ctrl-c" / "checkpoints").name == "step-00000002"


def test_a_finished_run_is_left_as_it_is(place: Path, whole: Path) -> None:
    before = (whole / "log.jsonl").read_bytes()
    outcome = train(config(place, out="whole", **HARD))
    assert (outcome.step, outcome.signal) == (9, None)
    assert (whole / "log.jsonl").read_bytes() == before


@pytest.mark.slow
def test_two_ranks_equal_one_with_weights_whole_or_sharded(place: Path) -> None:
    script = place / "ranks.py"
    script.write_text(f"""
from pathlib import Path
from lengthwise.training.trainer import train
from training.test_training_resume import on_ranks
for out, shard in (("two", False), ("sharded", True)):
    train(on_ranks(Path({str(place)!r}), out, shard))
""")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = python([*launch, str(script)])
    assert done.returncode == 0, done.stderr[-3000:]
    train(on_ranks(place, "one", False))
    one = log_of(place / "one")
    for out in ("two", "sharded"):
        other = log_of(place / out)
        assert [each["kind"] for each in other] == [each["kind"] for each in one]
        assert other[0]["ranks"] == 2
        for mine, theirs in zip(one[1:], other[1:], strict=True):
            name = {"train": "loss", "evaluation": "L", "growth": "N"}[mine["kind"]]
            assert theirs[name] == pytest.approx(mine[name], abs=1e-5)
            if mine["kind"] == "train":
                assert theirs["gradient_norm"] == pytest.approx(mine["gradient_norm"], abs=1e-4)
                assert theirs["tokens"] == mine["tokens"]
    # What two sharded ranks left, one alone can load.
    found = load_file(place / "sharded" / "model" / "model.safetensors")
    wanted = load_file(place / "one" / "model" / "model.safetensors")
    assert all(torch.allclose(found[key], wanted[key], atol=1e-4) for key in wanted)


def on_ranks(place: Path, out: str, shard: bool) -> Any:
    """Rows in four parts on one rank, in two on each of two."""
    growth = {"at_step": 3, "factor": 2, "optimizer": "copied"}
    return config(place, "best-fit", out=out, steps=5, accumulate=2, growth=growth,
                  optimizer={"lr": 1e-3, "eps": 1e-4}, parallel={"shard": shard})  # fmt: skip


def python(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    here = Path(__file__).parents[1]
    paths = [str(here.parent / "src"), str(here.parent), str(here)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1",
                                "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
    return subprocess.run([sys.executable, *arguments], env=environment, text=True,
                          capture_output=True, timeout=120)  # fmt: skip
