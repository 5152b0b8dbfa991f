"""Curves of several runs: read from their logs, compared, drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lengthwise.cli.main import group
from lengthwise.training.config import TrainingError
from lengthwise.training.curves import read_curve


def logged(place: Path, name: str, losses: dict[float, float]) -> Path:
    """A run whose evaluations had these losses after so many seconds, 100 tokens a second."""
    folder = place / name
    folder.mkdir()
    records = [{"kind": "run"}, {"kind": "train", "loss": 9.0}]
    records += [
        {"kind": "evaluation", "elapsed": at, "D": round(100 * at), "L": loss}
        for at, loss in losses.items()
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    return folder


def test_a_run_reached_a_loss_where_an_evaluation_first_had_it(tmp_path: Path) -> None:
    curve = read_curve(logged(tmp_path, "one", {1.0: 3.0, 2.5: 2.0, 4.0: 2.2, 5.0: 1.9}))
    assert [curve.reached(loss) for loss in (3.5, 2.0, 1.95, 1.0)] == [1.0, 2.5, 5.0, None]


def test_runs_are_held_against_the_last_loss_of_the_first(tmp_path: Path) -> None:
    runs = [
        logged(tmp_path, "concat", {2.0: 3.0, 4.0: 2.5}),
        logged(tmp_path, "decompose", {1.0: 2.6, 1.5: 2.4, 2.0: 2.2}),
        logged(tmp_path, "slow", {9.0: 2.9}),
    ]
    picture = tmp_path / "curves.png"
    found = CliRunner().invoke(group, ["curves", *map(str, runs), "--out", str(picture)])
    assert found.exit_code == 0, found.output
    lines = found.output.splitlines()
    assert "2.5000 after 4 s and 400 tokens" in lines[0]
    assert lines[1].endswith("2.5000 reached: 2 s") and lines[2].endswith("reached: never")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "concat", "curves.png", "decompose", "slow"
    ]  # fmt: skip
    found = CliRunner().invoke(group, ["curves", *map(str, runs), "--json"])
    assert [json.loads(line)["reached_s"] for line in found.output.splitlines()] == [4.0, 1.5, None]


def test_what_is_no_run_or_was_never_evaluated_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"nothing is no run: it has no log\.jsonl"):
        read_curve(tmp_path / "nothing")
    with pytest.raises(TrainingError, match="empty was never evaluated: set data.validation"):
        read_curve(logged(tmp_path, "empty", {}))
    run = logged(tmp_path, "one", {1.0: 3.0})
    found = CliRunner().invoke(group, ["curves", str(run), "--out", str(tmp_path / "a.gif")])
    assert "a picture is written as .png, .svg, .pdf" in str(found.exception)
