"""A log that is gone on with: what its checkpoint knows of stays, what is behind it goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.training import checkpoint
from lengthwise.training.config import TrainingError
from lengthwise.training.log import NAME, Log
from lengthwise.training.trainer import Trainer, train
from tests.training_runs import build_sets, config, log_of, same_weights, stop


def test_a_log_ends_where_it_was_cut(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"a": 1}\n{"b": 2}\n{"c')
    log = Log(tmp_path, 9, True)
    assert log.settle() == 9 == (tmp_path / NAME).stat().st_size
    log.write({"d": 3})
    assert log.settle() == 18
    log.close()
    assert (tmp_path / NAME).read_text() == '{"a": 1}\n{"d": 3}\n'
    assert Log(tmp_path, 18, True).settle() == 18
    with pytest.raises(TrainingError, match="shorter than the checkpoint says"):
        Log(tmp_path, 19, True)


def test_a_rank_that_writes_nothing_has_written_nothing(tmp_path: Path) -> None:
    log = Log(tmp_path, 0, False)
    log.write({"a": 1})
    assert log.settle() == 0 and not list(tmp_path.iterdir())


def test_a_run_killed_behind_its_checkpoint_may_be_stopped_before_the_next_record(
    tmp_path: Path,
) -> None:
    place = build_sets(tmp_path)
    other = {"log": {"every": 2, "plot_every": 0}}
    whole = train(config(place, out="whole", **other)).folder
    folder = stop(place, "run", 2, **other)
    with (folder / NAME).open("ab") as log:
        log.write(b'{"kind": "train", "step": 4}\n')
    trainer = Trainer(config(place, out="run", **other))
    trainer._step()
    trainer._checkpoint(now=True)
    trainer.close()
    place_of = checkpoint.latest(folder / "checkpoints")
    assert place_of and checkpoint.read_state(place_of)["step"] == 3
    assert train(config(place, out="run", **other)).step == 6
    assert log_of(folder) == log_of(whole) and same_weights(folder, whole)
