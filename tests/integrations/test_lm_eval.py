"""The harness's own command with our model in its registry."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.integrations import lm_eval as module
from tests.evaluation.harness.harness_cases import save_model, save_tasks


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lm_eval")
    save_tasks(made / "tasks", save_model(made / "model"))
    return made


def test_its_command_runs_every_kind_of_request(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lm_eval import tasks

    manager = tasks.TaskManager

    def own(**options: object) -> object:
        # All of the harness's own tasks take ten seconds to look through.
        return manager(**{**options, "include_defaults": False})

    monkeypatch.setattr(tasks, "TaskManager", own)
    recipe = "streaming(sinks=2, window=24) + lookup"
    monkeypatch.setattr(sys, "argv", [
        "lengthwise-lm-eval", "run", "--model", "lengthwise", "--model_args",
        f'recipe="{recipe}",pretrained={place / "model"},dtype=float32,max_length=200',
        "--tasks", "toy_choice,toy_page,toy_sum", "--include_path", str(place / "tasks"),
        "--batch_size", "2", "--apply_chat_template", "--limit", "2",
        "--output_path", str(place / "out"),
    ])  # fmt: skip
    module.main()
    shown = capsys.readouterr().out
    assert "lengthwise (" in shown and recipe in shown
    for metric in ("acc_norm", "bits_per_byte", "exact_match"):
        assert metric in shown
    (file,) = (place / "out").rglob("*.json")
    config = json.loads(file.read_text())["config"]
    assert config["recipe"] == recipe and config["max_length"] == 200
    assert config["cut_requests"] == 0


def test_what_is_wrong_is_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"pip install 'lengthwise\[evaluation\]'"):
        module.main()
    with pytest.raises(LengthwiseError, match="not installed"):
        module.register()


def test_registering_again_is_no_harm() -> None:
    from lm_eval.api.registry import get_model

    module.register()
    module.register()
    assert get_model("lengthwise").__name__ == "LengthwiseLM"
    # Its own models are still there.
    assert get_model("hf").__name__ == "HFLM"
