"""`lengthwise eval` in a terminal: a table, a file that goes on, and a nearest name."""

from __future__ import annotations

import json
from pathlib import Path

import lm_eval
import pytest
from lm_eval.tasks import TaskManager

from lengthwise.evaluation.harness import tasks as module
from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.runs.run_file import RunFile
from tests.bad_world import make_world
from tests.called import called
from tests.evaluation.harness.harness_cases import save_model, save_tasks
from tests.evaluation.tasks.published.code_rows import DOUBLE, LAST
from tests.evaluation.tasks.published.published_cases import write
from tests.remote_server import Scripted, says


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


def test_what_recipes_read_alike_may_be_kept_here_and_not_behind_a_server(place: Path) -> None:
    words = ("eval", "passkey", "-r", "full", "-r", "kivi", "-n", "500", "--json")
    here = ("-m", str(place / "model"), "--dtype", "fp32")
    plain, kept = called(*words, *here), called(*words, *here, "--cache-bytes", "64MB")
    assert (plain[0], kept[0]) == (0, 0), kept[2]
    rows = [[json.loads(line) for line in each[1].splitlines()] for each in (plain, kept)]
    assert [row["said"] for row in rows[0]] == [row["said"] for row in rows[1]]
    told = [[row["ttft_s"] is not None for row in each if row["number"] == 0] for each in rows]
    assert told == [[True, True], [True, False]]
    status, _, err = called(*words, "-m", "openai:http://127.0.0.1:1/v1", "--cache-bytes", "64MB")
    assert status == 2 and "--cache-bytes is of a model that runs here" in err


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
    for other in ("--wrong", "--all"):
        status, shown, err = called("eval", "show", "made.run", "--pass-at", "2", other)
        assert (status, shown) == (2, "") and f"{other} and --pass-at show different" in err
    assert "4 samples of 2 questions" in " ".join(out.split())


def test_a_run_is_judged_and_its_judgements_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_world(tmp_path)
    rows = [
        SampleRow("needle", recipe, 900, n, question="where?", references=("here",),
                  said=f"{recipe} says {n}", score=0.0)
        for recipe in ("full", "streaming") for n in range(6)
    ]  # fmt: skip
    with RunFile(tmp_path / "made.jsonl", {"model": "parrot ab float32"}) as file:
        for row in rows:
            file.add(row)
    server = Scripted(says("Fair. Rating: [[5]]"))
    ask = ("-m", f"openai:{server.url}", "--tokenizer", "model")
    try:
        status, out, err = called("eval", "judge", "made.jsonl", "--judge", "rating", *ask)
        assert status == 0, err
        assert "rating, judged by parrot" in out and "5.00 [5.00 5.00]" in out
        assert "parrot judges itself" in out and err.endswith("judgements: made.rating.jsonl\n")
        status, out, err = called("eval", "judge", "made.jsonl", "--judge", "pair(reference=false)",
                                  "--json", *ask)  # fmt: skip
        assert (status, out) == (2, "") and "judged none of 6 replies" in err
        status, out, err = called("eval", "judge", "made.jsonl", "--judge", "rating", "--json",
                                  *ask)  # fmt: skip
        assert status == 0 and len(server.asked) == 12 + 6 * 2 * 3
        assert [json.loads(line)["score"] for line in out.splitlines()] == [5.0] * 12
    finally:
        server.close()
    status, shown, err = called("eval", "show", "made.jsonl", "--all")
    assert status == 0, err
    assert shown.count("  judged   rating: 5.00; Fair. Rating: [[5]]") == 12
    assert shown.count("  judged   pair(reference=false) against full: unread; ") == 6
    status, listed, _ = called("eval", "judges")
    assert status == 0 and "0 to 100" in listed and "a reply and a reference" in listed


def test_ruler_over_lengths_is_told_and_is_a_line_of_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_world(tmp_path)
    words = ("eval", "ruler/fwe", "-m", "model", "-n", "700", "-n", "900", "--samples", "1",
             "--threshold", "0.5", "--out", "made.run")  # fmt: skip
    status, out, err = called(*words)
    assert status == 0, err
    assert "RULER by length" in out and "<700" in out and "above 0.5." in " ".join(out.split())
    *lines, last = [json.loads(line) for line in called(*words, "--json")[1].splitlines()]
    assert len(lines) == 2 and last["ruler"] == "full" and last["threshold"] == 0.5
    assert last["scores"] == {"700": 0.0, "900": 0.0} and last["effective_length"] is None


def test_what_a_run_left_out_is_shown_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_world(tmp_path)
    words = ("eval", "passkey", "-m", "model", "-n", "80", "-n", "900", "--samples", "1")
    status, _, err = called(*words, "--out", "made.run")
    assert status == 0, err
    status, shown, err = called("eval", "show", "made.run", "--html", "made.html")
    assert status == 0, err
    for said in (shown, (tmp_path / "made.html").read_text(encoding="utf-8")):
        assert "passkey at 80 tokens is left out" in " ".join(said.split())
