"""MBPP of rows in its format: three solved tasks, tests that are run, the checked part."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import tasks_of
from tests.evaluation.tasks.published.code_rows import mbpp_row, sanitized_row
from tests.evaluation.tasks.published.published_cases import task_of, wanted, write


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")


def test_a_task_stands_behind_three_solved_ones(tmp_path: Path) -> None:
    write(tmp_path, "mbpp.jsonl", [mbpp_row(n) for n in (1, 2, 3, 4, 11, 510, 511)])
    task = task_of("mbpp", tmp_path, "full")
    first, second = task.samples(wanted())
    assert first.context.count("[BEGIN]") == first.context.count("[DONE]") == 3
    assert first.context.endswith("[BEGIN]\ndef number_4():\n    return 4\n[DONE]")
    assert first.question.endswith("assert number_11() != 12\n[BEGIN]\n")
    assert "gives 510." in second.question and first.stop == ("[DONE]",)
    said = "def number_11():\n    return 11\n"
    assert task.score(f"{said}[DONE]\nand more", first) == {"passed": 1.0}
    assert task.score(said, second)["passed"] == 0.0
    assert task.score("raise SystemExit", first) == {"passed": 0.0, "exited": 1.0}


def test_the_checked_part_has_other_names(tmp_path: Path) -> None:
    write(tmp_path, "sanitized-mbpp.json", [sanitized_row(n) for n in (2, 3, 4, 11)])
    task = task_of("mbpp", tmp_path, "sanitized")
    (sample,) = task.samples(wanted())
    assert sample.facts["checks"].startswith("import math\n")
    assert task.score("number_11 = lambda: math.floor(11.5)", sample) == {"passed": 1.0}


def test_a_chat_has_no_solved_tasks(tmp_path: Path) -> None:
    write(tmp_path, "mbpp.jsonl", [mbpp_row(n) for n in (11, 601)])
    (task,) = tasks_of(f"mbpp(data={tmp_path}, chat=true)/full")
    (sample,) = task.samples(wanted())
    assert sample.chat and sample.context == "" and "block of Python" in sample.question
    assert task.score("```python\ndef number_11(): return 11\n```", sample) == {"passed": 1.0}
    (task,) = tasks_of(f"mbpp(data={tmp_path}, chat=true, filled=true)/full")
    (sample,) = task.samples(wanted())
    assert "return 601" in sample.context and "return 11" not in sample.context


def test_setup_stands_before_the_tests(tmp_path: Path) -> None:
    row = mbpp_row(11, test_setup_code="made = number_11()", test_list=["assert made == 11"])
    write(tmp_path, "mbpp.jsonl", [*(mbpp_row(n) for n in (2, 3, 4)), row])
    task = task_of("mbpp", tmp_path, "full")
    (sample,) = task.samples(wanted())
    assert task.score("def number_11(): return 11", sample) == {"passed": 1.0}


def test_a_file_without_the_solved_tasks_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "mbpp.jsonl", [mbpp_row(n) for n in (2, 4, 11)])
    with pytest.raises(LengthwiseError, match=r"has not all of tasks \(2, 3, 4\)"):
        task_of("mbpp", tmp_path, "full").samples(wanted())
