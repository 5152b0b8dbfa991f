"""HumanEval of rows in its format: completions, chats, other functions before, several replies."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.evaluation.tasks.benchmark import NoRoom, Task, tasks_of
from tests.evaluation.tasks.published.code_rows import DOUBLE, LAST
from tests.evaluation.tasks.published.published_cases import wanted


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")


def task(folder: Path, options: str = "") -> Task:
    lines = "".join(json.dumps(row) + "\n" for row in (DOUBLE, LAST))
    (folder / "HumanEval.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (found,) = tasks_of(f"humaneval(data={folder}{options})")
    return found


def test_a_completion_is_cut_at_stop_words_and_run(tmp_path: Path) -> None:
    found = task(tmp_path)
    first, second = found.samples(wanted())
    assert (first.context, first.question, first.chat) == ("", DOUBLE["prompt"], False)
    right = DOUBLE["canonical_solution"]
    assert found.score(right, first) == {"passed": 1.0}
    assert found.score(f"{right}\ndef other():\n  not python", first) == {"passed": 1.0}
    assert found.score("    return x\n", first) == {"passed": 0.0, "failed": 1.0}
    assert found.score("    import os; os._exit(0)\n", first) == {"passed": 0.0, "exited": 1.0}
    assert found.score(right, second)["passed"] == 0.0


def test_a_chat_is_asked_for_a_block(tmp_path: Path) -> None:
    found = task(tmp_path, ", chat=true")
    first, _ = found.samples(wanted())
    assert first.chat and DOUBLE["prompt"].rstrip() in first.question and not first.stop
    whole = "Here:\n```python\ndef double(x):\n    return floor(2 * x)\n```\nIt doubles."
    body = "```\n    return floor(2 * x)\n```"
    bare = "    return floor(2 * x)"
    unclosed = "```python\ndef double(x):\n    return floor(2 * x)\n"
    for said in (whole, body, bare, unclosed):
        assert found.score(said, first) == {"passed": 1.0}, said
    assert found.score("I cannot do that.", first)["passed"] == 0.0


def test_other_functions_fill_the_length(tmp_path: Path) -> None:
    found = task(tmp_path, ", filled=true")
    first, second = found.samples(wanted())
    assert "return items[-1]" in first.context and "floor" not in first.context
    assert "floor(2 * x)" in second.context
    assert [each.context for each in found.samples(wanted(690))] == ["", ""]
    assert [each.own for each in found.samples(wanted())] == ["", ""]
    with pytest.raises(NoRoom, match="longer than 500 tokens"):
        found.samples(wanted(500))


def test_replies_for_pass_at_k_are_drawn_by_seeds(tmp_path: Path) -> None:
    found = task(tmp_path, ", replies=5, temperature=0.8")
    samples = found.samples(wanted(samples=10))
    assert len(samples) == 10 and len({each.seed for each in samples}) == 10
    assert {each.temperature for each in samples} == {0.8}
    assert [each.question for each in samples[:5]] == [samples[0].question] * 5
    with pytest.raises(LengthwiseError, match="give at least 5 samples"):
        found.samples(wanted(samples=4))
    with pytest.raises(LengthwiseError, match=r"humaneval\(replies=2, temperature=0.8\)"):
        task(tmp_path, ", replies=2").samples(wanted())


def test_leave_to_run_code_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL")
    with pytest.raises(LengthwiseError, match="humaneval.* needs leave .* HF_ALLOW_CODE_EVAL=1"):
        task(tmp_path)


def test_what_is_damaged_or_unknown_is_said(tmp_path: Path) -> None:
    (tmp_path / "HumanEval.jsonl.gz").write_bytes(b"no gzip")
    (found,) = tasks_of(f"humaneval(data={tmp_path})")
    with pytest.raises(LengthwiseError, match="HumanEval.jsonl.gz cannot be read"):
        found.samples(wanted())
    (tmp_path / "HumanEval.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": 1}\n')[:-9])
    with pytest.raises(LengthwiseError, match="HumanEval.jsonl.gz cannot be read"):
        found.samples(wanted())
    (tmp_path / "HumanEval.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "x"}\n'))
    with pytest.raises(LengthwiseError, match="has no column 'task_id'"):
        found.samples(wanted())
    with pytest.raises(RecipeError, match="temperature"):
        tasks_of("humaneval(temperature=9)")
