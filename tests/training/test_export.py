"""The model that a run leaves: what others put beside it stays when it is left again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lengthwise.training.config import TrainingError
from lengthwise.training.export import ORIGIN
from lengthwise.training.trainer import Trainer
from tests.training_runs import build_sets, config, same_weights

LONGER = {"schedule": {"name": "power"}}


def run(place: Path, out: Path, steps: int) -> Path:
    return (
        Trainer(config(place, out=str(out), steps=steps, **LONGER), extend=steps > 3).run().folder
    )


def test_a_longer_run_leaves_files_of_others_where_they_are(tmp_path: Path) -> None:
    place = build_sets(tmp_path)
    folder = run(place, tmp_path / "run", 3)
    model = folder / "model"
    written = sorted(each.name for each in model.iterdir())
    said = json.loads((model / ORIGIN).read_text())
    assert (said["step"], [*said["files"], ORIGIN]) == (
        3,
        sorted(written, key=lambda n: n == ORIGIN),
    )
    (model / "README.md").write_text("mine")
    (model / "gguf").mkdir()
    (model / "gguf" / "model.gguf").write_text("mine, too")
    run(place, folder, 5)
    assert json.loads((model / ORIGIN).read_text())["step"] == 5
    assert (model / "README.md").read_text() == "mine"
    assert (model / "gguf" / "model.gguf").read_text() == "mine, too"
    assert sorted(each.name for each in model.iterdir()) == sorted([*written, "README.md", "gguf"])
    assert sorted(each.name for each in folder.iterdir()) == [
        "checkpoints", "log.jsonl", "model", "run.json",
    ]  # fmt: skip
    whole = Trainer(config(place, out="whole", steps=5, **LONGER)).run().folder
    assert not same_weights(run(place, tmp_path / "short", 3), folder)
    assert (whole / "model" / "config.json").read_text() == (model / "config.json").read_text()


def test_a_name_that_the_model_needs_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    place = build_sets(tmp_path)
    folder = run(place, tmp_path / "run", 3)
    model = folder / "model"
    said = json.loads((model / ORIGIN).read_text())
    # As if the model before had none.
    said["files"].remove("config.json")
    (model / ORIGIN).write_text(json.dumps(said))
    (model / "config.json").write_text("mine")
    with pytest.raises(TrainingError, match=r"model holds config\.json, which .* put it elsewhere"):
        run(place, folder, 5)
    assert (model / "config.json").read_text() == "mine"
    assert json.loads((model / ORIGIN).read_text()) == said
    (model / "config.json").unlink()
    run(place, folder, 5)
    assert json.loads((model / ORIGIN).read_text())["step"] == 5
