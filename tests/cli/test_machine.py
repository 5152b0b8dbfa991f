"""`lengthwise machine`: the table, the same in JSON, and what is said where nothing is timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import lengthwise
from lengthwise.api import machine as api_machine
from lengthwise.cli.machine import machine
from lengthwise.engine.kernels import choice, compiled, tuning
from lengthwise.errors import LengthwiseError
from lengthwise.models import packing
from lengthwise.models.packing import can_pack
from tests.evaluation.drafting_cases import saved_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(choice.VARIABLE)
    monkeypatch.setattr(choice, "_TIMED", {})
    monkeypatch.setattr(choice, "_SPOTS", {})
    return str(saved_model(tmp_path / "tiny"))


def test_a_small_model_has_no_table(folder: str) -> None:
    called = CliRunner().invoke(machine, ["--model", folder, "--dtype", "float32"])
    assert called.exit_code == 0 and "nothing is timed for models this small" in called.output
    assert "GB/s" in called.output and "TFLOP/s" in called.output


def test_the_table_and_its_json(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tuning, packing):
        monkeypatch.setattr(module, "SMALL", 0)
    monkeypatch.setattr(tuning, "BLOCKS", ((16, 32), (16, 64)))
    monkeypatch.setattr(tuning, "STEPS", ((1, 32),))
    for name in ("SCORES", "VALUES"):
        monkeypatch.setattr(tuning, name, ((1, 32),))
    given = ["--model", folder, "--dtype", "float32"]
    called = CliRunner().invoke(machine, given)
    assert called.exit_code == 0, called.output
    assert called.output.count("block") == 2 and "kept in" in called.output
    found = json.loads(CliRunner().invoke(machine, [*given, "--json"]).stdout)
    rows = found["timed"]
    assert [row["question"] for row in rows][:5] == ["block", "block", "step", "scores", "values"]
    assert {row["question"] for row in rows[5:]} == {"norm"}  # float32 is not packed
    for row in rows:
        assert row["chosen"] in row["seconds"] and row["rate"] > 0
        if row["question"] in choice.KERNELS:
            assert row["chosen"] == choice.fastest(row["question"], row["seconds"])


@pytest.mark.skipif(not can_pack(torch.empty(1, 1).bfloat16()), reason="oneDNN packs nothing here")
def test_weights_are_in_the_table_and_timed_again(
    folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (tuning, packing):
        monkeypatch.setattr(module, "SMALL", 0)
    for name in ("BLOCKS", "STEPS", "SCORES", "VALUES"):
        monkeypatch.setattr(tuning, name, ((16, 32),))
    model = lengthwise.load(folder, "bfloat16", "cpu")
    found = lengthwise.machine(model)
    products = [row for row in found.timed if row.question == "product"]
    assert {row.rows for row in products} == set(packing.ROWS)
    assert all(row.chosen in row.seconds and row.rate > 0 for row in products)
    (kept,) = (tmp_path / "cache" / "machine").glob("*.json")
    kept.write_text(kept.read_text().replace('"packed": ', '"packed": 9'))  # copies become slow
    told = lengthwise.machine(lengthwise.load(folder, "bfloat16", "cpu")).timed
    assert {row.chosen for row in told if row.question == "product"} == {"plain"}
    again = lengthwise.machine(model, again=True).timed
    seconds = [row.seconds["packed"] for row in again if row.question == "product"]
    assert len(seconds) == len(products) and max(seconds) < 9


def test_a_gpu_without_triton_is_told_and_works(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--model", folder, "--dtype", "float32"]
    told = "triton is not installed"
    assert told not in CliRunner().invoke(machine, given).output
    monkeypatch.setattr(compiled, "installed", lambda: False)
    assert told not in CliRunner().invoke(machine, given).output, "a CPU does not need it"
    monkeypatch.setattr(api_machine, "why_not", lambda device: compiled.why_not("cuda"))
    called = CliRunner().invoke(machine, given)
    assert called.exit_code == 0 and called.output.count(told) == 1
    found = json.loads(CliRunner().invoke(machine, [*given, "--json"]).stdout)
    assert "pip install triton" in found["missing"]


def test_an_override_is_said(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "default")
    called = CliRunner().invoke(machine, ["--model", folder, "--dtype", "float32"])
    assert "an override is given" in called.output


def test_a_kernel_that_is_none_is_refused_before_a_model_is_read() -> None:
    with pytest.raises(LengthwiseError, match="did you mean flash"):
        lengthwise.load("nowhere", kernel="flsh")
    with pytest.raises(LengthwiseError, match="kernel=3: give text"):
        lengthwise.load("nowhere", kernel=3)  # type: ignore[arg-type]


def test_a_model_runs_with_the_kernel_it_was_given(folder: str) -> None:
    wanted = lengthwise.load(folder, "float32", "cpu").generate([5, 6, 7], max_new_tokens=8)
    for kernel in ("plain", "products,narrow", "block=rows", "stock"):
        model = lengthwise.load(folder, "float32", "cpu", kernel=kernel)
        assert model.generate([5, 6, 7], max_new_tokens=8).token_ids == wanted.token_ids
