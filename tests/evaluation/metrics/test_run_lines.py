"""Files of runs: begun with their first line, of one job, and not mixed up."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.harness.run_file import HarnessFile
from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.runs.run_file import RunFile, read_run

ROW = SampleRow("needle", "full", 512, 0, score=1.0)


def test_a_file_is_made_with_its_first_row_and_goes_without_one(tmp_path: Path) -> None:
    out = tmp_path / "a.run"
    with RunFile(out, {"model": "m"}):
        pass
    assert not out.exists()
    with RunFile(out, {"model": "m"}) as run:
        run.add(ROW)
    head, rows = read_run(out)
    assert head["job"] == {"model": "m"} and rows == [ROW]
    # One that was there stays, whatever comes of the run.
    (tmp_path / "empty").touch()
    with RunFile(tmp_path / "empty", {}):
        pass
    assert (tmp_path / "empty").exists()


def test_runs_of_two_kinds_are_told_apart(tmp_path: Path) -> None:
    out = tmp_path / "a.run"
    with RunFile(out, {"model": "m"}) as run:
        run.add(ROW)
    with pytest.raises(LengthwiseError, match="no run of lengthwise"):
        HarnessFile(out, {"model": "m"})
    with pytest.raises(LengthwiseError, match="a run of another model"):
        RunFile(out, {"model": "n"})
    with RunFile(out, {"model": "n"}, force=True) as run:
        assert not run.answered
        run.add(ROW)
    assert read_run(out)[0]["job"] == {"model": "n"}
