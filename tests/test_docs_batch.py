"""The page on batch jobs: its request is one, its example runs, its result has the form of ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import lengthwise
from lengthwise.serving.batch_files import read_lines
from tests.chat_models import chat_model

PAGE = (Path(__file__).parents[1] / "docs" / "batch.md").read_text(encoding="utf-8")


def test_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lengthwise, "load", chat_model, raising=False)
    asked, shown = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    Path("requests.jsonl").write_text(asked, encoding="utf-8")
    (line,), _ = read_lines(Path("requests.jsonl"))
    assert line.error is None
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names: dict[str, Any] = {}
    exec(compile(block, "batch.md", "exec"), names)
    assert capsys.readouterr().out.startswith("1 0 ")
    (row,) = map(json.loads, Path("answers.jsonl").read_text(encoding="utf-8").splitlines())
    given = json.loads(shown)
    assert set(row) == set(given) and set(row["response"]) == set(given["response"])
    assert row["custom_id"] == given["custom_id"]
    assert Path("answers.jsonl.manifest.json").is_file()
