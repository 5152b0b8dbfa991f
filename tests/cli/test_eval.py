"""`lengthwise eval` in a terminal: a table, a file that goes on, and a nearest name."""

from __future__ import annotations

import json
from pathlib import Path

import lm_eval
import pytest
from lm_eval.tasks import TaskManager

from lengthwise.evaluation.harness import tasks as module
from tests.bad_world import make_world
from tests.called import called
from tests.evaluation.harness.harness_cases import save_model, save_tasks
from tests.evaluation.tasks.published.code_rows import DOUBLE, LAST
from tests.evaluation.tasks.published.published_cases import write


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("eval")
    save_tasks(made / "tasks", save_model(made / "model"))
    return made


def test_one_table_and_a_line_a_sample(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("eval", "toy_choice", "toy_sum", "-m", str(place / "model"), "--dtype", "fp32",
             "--include-path", str(place / "tasks"), "-r", "lookup", "--limit", "2",
             "--out", "run.jsonl")  # fmt: skip
    status, out, err = called(*words)
    assert status == 0, err
    assert [line for line in err.splitlines() if line] == [
        f"{place / 'model'} in float32 on cpu, trained to 256 tokens"
    ]
    assert "toy_choice   acc" in out and "exact_match" in out and "lookup" in out
    assert "+0.000 p=1.000" in out
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    # A head; two samples of each task under each recipe, and a line when they are done.
    assert len(lines) == 1 + 2 * 2 * (2 + 1)
    assert lines[0]["job"]["limit"] == 2 and lines[0]["origin"]["versions"]["lengthwise"]
    before = (tmp_path / "run.jsonl").read_bytes()
    assert called(*words)[:2] == (0, out)
    assert (tmp_path / "run.jsonl").read_bytes() == before


def test_a_name_that_there_is_not_has_a_nearest(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arc = Path(lm_eval.__file__).parent / "tasks" / "arc"
    few = TaskManager(include_path=str(arc), include_defaults=False)
    monkeypatch.setattr(module, "_shipped", lambda: few)
    status, out, err = called("eval", "arc_eazy", "-m", str(place / "model"))
    assert (status, out) == (2, "")
    assert err == "lengthwise: there is no task 'arc_eazy'; did you mean 'arc_easy'?\n"
    status, _, err = called("eval", "arc_easy", "-m", str(place / "model"))
    assert status == 2
    assert err.startswith("lengthwise: task arc_easy: its data set allenai/ai2_arc ARC-Easy cannot")


def test_benchmarks_of_ours_need_no_command_and_a_run_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_world(tmp_path)
    words = ("-r", "full", "needle", "-m", "model", "-r", "bm25(budget=400)", "-n", "900",
             "--samples", "2", "--depth", "0.5", "--out", "made.run", "--html",
             "made.html")  # fmt: skip
    status, out, err = called("eval", *words)
    assert status == 0, err
    assert "Score by task" in out and "bm25(budget=400)" in out and "Cost" in out
    assert "How it was measured" in (tmp_path / "made.html").read_text(encoding="utf-8")
    status, shown, err = called("eval", "show", "made.run", "--wrong", "-r", "full")
    assert status == 0, err
    assert shown.count("  wanted ") == 2 and "needle 1, 900 tokens, answer at 50%" in shown
    status, table, _ = called("eval", "show", "made.run", "--html", "again.html")
    assert status == 0 and "bm25(budget=400)" in table
    head, first, *_ = (tmp_path / "made.run").read_text(encoding="utf-8").splitlines()
    waits = json.dumps({**json.loads(first), "score": None, "scores": {}})
    (tmp_path / "waits.run").write_text(f"{head}\n{waits}\n", encoding="utf-8")
    status, shown, err = called("eval", "show", "waits.run", "--all")
    assert status == 0 and "not judged" in shown and "refused" not in shown, err
    status, shown, err = called("eval", "show", "waits.run", "--html", "waits.html")
    assert status == 0 and "refused" not in shown, err
    status, _, err = called("eval", "show", "made.run", "--task", "vt")
    assert status == 2 and "has no task 'vt'; it has needle" in err
    status, listed, _ = called("eval", "tasks")
    assert status == 0 and "ruler/vt" in listed and "diffusion" in listed
    assert listed.splitlines()[-1] == "suites: kick, code, synthetic"


def test_a_suite_of_programs_is_run_and_shown_by_pass_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_world(tmp_path)
    (tmp_path / "problems").mkdir()
    write(tmp_path / "problems", "HumanEval.jsonl", [DOUBLE, LAST])
    words = ("eval", "--suite", "code(data=problems, replies=2, temperature=1)", "-m", "model",
             "-n", "900", "--samples", "4", "--out", "made.run")  # fmt: skip
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    status, _, err = called(*words)
    assert status == 2 and "needs leave to run the code that a model writes" in err
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    status, _, err = called(*words)
    assert status == 2 and "mbpp.jsonl" in err
    status, out, err = called(
        "eval", "humaneval(data=problems, replies=2, temperature=1)", *words[3:]
    )
    assert status == 0, err
    assert "Score by task" in out and "4 samples" in out
    status, shown, err = called("eval", "show", "made.run", "--pass-at", "2")
    assert status == 0, err
    assert "pass@2 0.000 [0.000 " in shown and "2 problems of at least 2 replies" in shown
    status, _, err = called("eval", "show", "made.run", "--pass-at", "3")
    assert status == 2 and "a problem has 2 replies" in err
