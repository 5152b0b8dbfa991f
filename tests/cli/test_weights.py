"""--weights: every verb that opens a model takes it, and what was opened is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lengthwise.cli.main import VERBS, ModelChoice, group
from tests.evaluation.drafting_cases import saved_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(saved_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_what_runs_is_said(folder: str, weights: str) -> None:
    asked = ["run", "a", "--raw", "-m", folder, "--dtype", "fp32", "--device", "cpu"]
    found = CliRunner().invoke(
        group, [*asked, "--weights", weights, "--max-new-tokens", "4", "--json"]
    )
    assert found.exit_code == 0, found.output
    # Of this model's 48 inputs no group of int4 is a divisor, so 8 bits are what it gets.
    assert "in float32, int8 weights on cpu" in found.stderr
    assert json.loads(found.stdout)["dtype"] == "float32, int8 weights"


def test_other_formats_are_one_line(folder: str) -> None:
    found = CliRunner().invoke(group, ["check", folder, "--weights", "int3"])
    assert found.exit_code != 0
    assert "held as int8 or int4" in str(found.exception) + found.output


def test_all_verbs_that_open_a_model_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def opened(choice: ModelChoice) -> None:
        seen.append(choice)
        raise KeyboardInterrupt

    monkeypatch.setattr(ModelChoice, "open", opened)
    needed = {"compare": [str(Path(__file__)), "-q", "?"], "run": ["?"], "calibrate": ["layers"]}
    for verb in ("compare", "run", "check", "machine", "calibrate", "bench"):
        assert verb in VERBS
        kind = ["drafting"] if verb == "bench" else []
        CliRunner().invoke(group, [verb, *kind, *needed.get(verb, []), "--weights", "int4"])
        assert seen and seen.pop() == ModelChoice(None, None, None, "int4", None, None, None), verb
