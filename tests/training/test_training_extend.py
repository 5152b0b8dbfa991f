"""Runs that are made longer: only where the steps done are those of the longer run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from lengthwise.cli.train import train as train_verb
from lengthwise.sequences.curricula import Curriculum
from lengthwise.training.config import TrainingError
from lengthwise.training.stretches import Stretches
from lengthwise.training.trainer import Trainer, train
from tests.training_runs import (
    Watching,
    config,
    log_of,
    same_weights,
    stop,
)

POWER = {"schedule": {"name": "power", "warmup_steps": 2}}
# As many rows as a step has: an epoch of six steps.
EPOCH = {"data": {"train": "small", "validation": "validation"}}


def test_more_steps_are_refused_until_they_are_asked_for(place: Path, tmp_path: Path) -> None:
    folder = stop(place, tmp_path / "run", 3, **POWER)
    with pytest.raises(TrainingError, match="a run of 6 steps and not 9: --extend goes on to step"):
        Trainer(config(place, out=str(folder), steps=9, **POWER))
    with pytest.raises(TrainingError, match="can be made longer and not shorter"):
        Trainer(config(place, out=str(folder), steps=5, **POWER), extend=True)
    with pytest.raises(TrainingError, match="no run that could be extended"):
        Trainer(config(place, out=str(tmp_path / "new"), **POWER), extend=True)


# wsd without a decay is a constant rate.
@pytest.mark.parametrize("name", ["power", "wsd"])
def test_a_run_over_whole_epochs_made_longer_is_the_longer_run(
    place: Path, tmp_path: Path, name: str
) -> None:
    schedule = {"schedule": {"name": name, "warmup_steps": 2}}
    long = train(config(place, out=str(tmp_path / "long"), epochs=3, **EPOCH, **schedule)).folder
    short = train(config(place, out=str(tmp_path / "short"), epochs=2, **EPOCH, **schedule))
    assert (short.folder / "model").is_dir()
    progress = Watching()
    again = train(
        config(place, out=str(short.folder), epochs=3, **EPOCH, **schedule), progress, extend=True
    )
    assert again.step == again.steps == 3 * short.steps // 2
    assert same_weights(short.folder, long)
    steps = [r for r in log_of(short.folder) if r["kind"] == "train"]
    assert steps == [r for r in log_of(long) if r["kind"] == "train"]
    (extension,) = [r for r in log_of(short.folder) if r["kind"] == "extension"]
    assert (extension["before"], extension["planned_steps"]) == (short.steps, again.steps)
    # The same command again changes nothing, with and without the word.
    before = (short.folder / "log.jsonl").read_bytes()
    for extend in (True, False):
        train(config(place, out=str(short.folder), epochs=3, **EPOCH, **schedule), extend=extend)
    assert (short.folder / "log.jsonl").read_bytes() == before


def test_a_run_shorter_than_an_epoch_made_longer_twice_reads_on(
    place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(config(place, out=str(out), steps=6, **POWER))
    train(config(place, out=str(out), steps=10, **POWER), extend=True)
    stopped = train(config(place, out=str(out), steps=14, **POWER), Watching(12), extend=True)
    assert stopped.step == 12
    # Interrupted, it goes on with the same command or without the word.
    trainer = Trainer(config(place, out=str(out), steps=14, **POWER))
    read = [trainer.feed.draw(step) for step in range(14)]
    for length in {each.length for each in read}:
        rows = np.concatenate([each.rows for each in read if each.length == length])
        assert len(np.unique(rows)) == len(rows)
    assert trainer.run().step == 14
    # Stopped nowhere, the same plan gives the same weights.
    other = tmp_path / "other"
    for steps in (6, 10, 14):
        train(config(place, out=str(other), steps=steps, **POWER), extend=steps > 6)
    assert same_weights(out, other)


def test_stretches_read_every_row_before_any_a_second_time() -> None:
    whole = Curriculum({16: 64, 32: 32}, 64, seed=3)
    assert whole.steps_per_epoch == 32
    plan = Stretches(whole, (10, 21), 21 + 40)
    first = whole.shortened(10)
    for step in range(10):
        assert plan.draw(step).rows.tolist() == first.draw(0, step).rows.tolist()
    read: dict[int, list[int]] = {16: [], 32: []}
    for step in range(61):
        draw = plan.draw(step)
        parts = [plan.draw(step, rank, 2).rows.tolist() for rank in (0, 1)]
        assert sorted(sum(parts, [])) == sorted(draw.rows.tolist())
        read[draw.length] += draw.rows.tolist()
    for length, rows in whole.buckets.items():
        assert sorted(read[length][:rows]) == list(range(rows))


@pytest.mark.parametrize(
    ("schedule", "done", "said"),
    [
        ({"name": "cosine"}, 3, "step 0 of the 3 done would have had the rate"),
        ({"name": "wsd", "decay_steps": 4}, 5, "step 2 of the 5 done"),
        ({"name": "power", "decay_steps": 4}, 5, "step 2 of the 5 done"),
    ],
)
def test_a_schedule_whose_end_was_felt_cannot_be_extended(
    place: Path, tmp_path: Path, schedule: dict[str, Any], done: int, said: str
) -> None:
    folder = stop(place, tmp_path / "run", done, schedule=schedule)
    longer = config(place, out=str(folder), steps=9, schedule=schedule)
    with pytest.raises(TrainingError, match=said) as refused:
        Trainer(longer, extend=True)
    assert "schedule.name = 'power' without decay_steps" in str(refused.value)


@pytest.mark.parametrize("name", ["wsd", "power"])
def test_before_its_decay_a_schedule_can_be_extended(
    place: Path, tmp_path: Path, name: str
) -> None:
    schedule = {"name": name, "decay_steps": 2, "warmup_steps": 1}
    epochs = {"schedule": schedule, **EPOCH}
    long = train(config(place, out=str(tmp_path / "long"), epochs=3, **epochs)).folder
    folder = stop(place, tmp_path / "run", 3, epochs=2, **epochs)
    train(config(place, out=str(folder), epochs=3, **epochs), extend=True)
    assert same_weights(folder, long)


def test_upsampling_cannot_be_extended(place: Path, tmp_path: Path) -> None:
    domains = {"capitals": {"data": "domain", "weight": 0.5}}
    other = {"upsampling": {"share": 0.5, "domains": domains}, **POWER}
    folder = stop(place, tmp_path / "run", 2, epochs=1, **other)
    with pytest.raises(TrainingError, match=r"\[upsampling\] is counted from the end of the run"):
        Trainer(config(place, out=str(folder), epochs=2, **other), extend=True)


def test_the_verb_extends_by_name(place: Path) -> None:
    def described(steps: int) -> list[str]:
        (place / "run.toml").write_text(
            f'out = "by-verb"\ntokens_per_step = 256\nsteps = {steps}\n[data]\ntrain = "concat"\n'
            '[model]\nfamily = "gpt2"\nn_embd = 32\nn_layer = 1\nn_head = 2\n'
            '[schedule]\nname = "power"\n'
        )
        return [str(place / "run.toml")]

    runner = CliRunner()
    assert runner.invoke(train_verb, described(2), standalone_mode=False).return_value == 0
    refused = runner.invoke(train_verb, described(3), standalone_mode=False)
    assert "--extend goes on to step 3" in str(refused.exception)
    done = runner.invoke(train_verb, [*described(3), "--extend"], standalone_mode=False)
    assert "3 steps done" in done.output
