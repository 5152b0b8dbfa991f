"""A calibration in its file: of one model, whole, and used as it was found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lengthwise.api.model import Model
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.pac import calibration as module
from lengthwise.evaluation.pac.calibration import (
    CALIBRATION,
    calibrate_pac,
    open_calibration,
    predict_pac,
)
from lengthwise.evaluation.pac.examples import Example, read_examples
from lengthwise.evaluation.pac.holes import BUDGETS
from lengthwise.evaluation.pac.predicting import Prediction
from lengthwise.evaluation.pac.program_tree import program_of, weigh
from tests.api.byte_models import byte_model

EXAMPLES = [Example(f"write f{number}: ", f"f(a, {number % 10})\n") for number in range(20)]


def _sure_of_all_but_the_number(source: str) -> Prediction:
    program = program_of(source)
    assert program is not None
    pieces = [b"f", b"(", b"a", b",", b" 3", b")", b"\n"]
    weigh(program, pieces, [-0.01, -0.01, -0.01, -0.01, -2.0, -0.01, -0.01])
    return Prediction(source, program)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model that always writes f(a, 3), unsure of the 3."""
    made = _sure_of_all_but_the_number("f(a, 3)\n")
    monkeypatch.setattr(
        module, "predict_programs", lambda model, prompts, *_: [made] * len(prompts)
    )
    return byte_model()


def test_what_is_often_wrong_is_left_out(three: Model, tmp_path: Path) -> None:
    found = calibrate_pac(three, EXAMPLES, epsilon=0.2, delta=0.1)
    # Nine of ten numbers are others: with the number all would be wrong far too often.
    assert found.errors <= found.allowed == 1 and 0.04 < found.budget < 2.0
    assert predict_pac(three, found, "write f: ").text == "f(a, ??)\n"
    # Where so many may be wrong, nothing is left out.
    loose = calibrate_pac(three, EXAMPLES, epsilon=0.99, delta=0.1)
    assert loose.budget == float("inf") and loose.kept == 1.0
    assert predict_pac(three, loose, "write f: ").text == "f(a, 3)\n"
    loose.save(tmp_path / "loose.json")
    assert open_calibration(tmp_path / "loose.json", three) == loose


def test_what_is_no_program_is_one_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = byte_model()
    found = calibrate_pac(model, EXAMPLES[:12], max_new_tokens=4)
    assert 0 <= found.kept <= 1 and found.errors <= found.allowed
    monkeypatch.setattr(module, "predict_programs", lambda *_: [Prediction("", None)])
    assert predict_pac(model, found, "write f: ").text == "??"


def test_calibration_of_another_model_is_refused(three: Model, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    calibrate_pac(three, EXAMPLES).save(path)
    assert not list(tmp_path.glob(".*")) and CALIBRATION.ours(path)
    other = byte_model(seed=1)
    with pytest.raises(LengthwiseError, match="calibrate this one"):
        open_calibration(path, other)
    with pytest.raises(LengthwiseError, match="calibrate this one"):
        predict_pac(other, open_calibration(path), "write f: ")


def test_damaged_files_are_refused(three: Model, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    calibrate_pac(three, EXAMPLES).save(path)
    held = json.loads(path.read_text())
    for change, said in (
        ({"format": "x"}, "no calibration"), ({"version": 9}, "version 9"),
        ({"chosen": 999}, "damaged"), ({"budget": 0.5}, "damaged"), ({"nope": 1}, "damaged"),
    ):  # fmt: skip
        path.write_text(json.dumps(held | change))
        with pytest.raises(LengthwiseError, match=said):
            open_calibration(path)
        assert not CALIBRATION.ours(path)
    path.write_text("{")
    with pytest.raises(LengthwiseError, match="no calibration"):
        open_calibration(path)
    with pytest.raises(LengthwiseError, match="cannot be read"):
        open_calibration(tmp_path / "nope")


def test_arguments_are_refused_before_anything_runs(three: Model) -> None:
    with pytest.raises(LengthwiseError, match="give at least 11"):
        calibrate_pac(three, EXAMPLES[:5])
    with pytest.raises(LengthwiseError, match="allowed is 1 to 10"):
        calibrate_pac(three, EXAMPLES, holes=0)
    with pytest.raises(LengthwiseError, match="no Python"):
        calibrate_pac(three, [*EXAMPLES, Example("x", "def (")])


def test_files_of_examples(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    rows = [{"prompt": "def f(a):\n    return", "program": "def f(a):\n    return a\n",
             "begin": "def f(a):\n    return"}, {"prompt": "write x", "program": "x"}]  # fmt: skip
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    assert read_examples(path)[0].begin == rows[0]["begin"] and len(read_examples(path)) == 2
    # Line marks that are none in JSON.
    program = "x = '\u2028\u0085'"
    row = json.dumps({"prompt": "a\u2029b", "program": program}, ensure_ascii=False)
    path.write_text(f"{row}\r\n{row}\n", encoding="utf-8", newline="")
    assert [(each.prompt, each.program) for each in read_examples(path)] == [
        ("a\u2029b", program)
    ] * 2
    for line, said in (
        ("[]", "line 1: this is no JSON object"), ('{"program": "x"}', "`prompt` must be"),
        ('{"prompt": "a"}', "`program` must be a text"),
        ('{"prompt": "a", "program": "def ("}', "no Python"),
        ('{"prompt": "a", "program": "x", "begin": "y"}', "`begin` must be"), ("", "no example"),
    ):  # fmt: skip
        path.write_text(line)
        with pytest.raises(LengthwiseError, match=said):
            read_examples(path)
    with pytest.raises(LengthwiseError, match="cannot be read"):
        read_examples(tmp_path / "nope")


def test_thresholds_are_fixed_and_end_with_all() -> None:
    assert list(BUDGETS) == sorted(BUDGETS) and BUDGETS[-1] == float("inf")
