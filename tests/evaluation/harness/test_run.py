"""Tasks of the harness under recipes: loaded once, run side by side, gone on with after a kill."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.tasks import TaskManager

import lengthwise
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.evaluation.harness import run as module, tasks as tasks_module
from lengthwise.evaluation.harness.model import LengthwiseLM
from lengthwise.evaluation.harness.outcome import HarnessSample, Outcome, Score
from lengthwise.evaluation.harness.run import Asking, HarnessRun, run_harness
from lengthwise.evaluation.harness.scores import score_rows
from lengthwise.evaluation.harness.tasks import Loaded, load_tasks
from lengthwise.evaluation.reports.harness_table import number, show_scores
from tests.evaluation.harness.harness_cases import TASKS, save_model, save_tasks

SHIPPED = Path(lm_eval.__file__).parent / "tasks"
NARROW = "streaming(sinks=2, window=8)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("harness")
    save_tasks(place / "tasks", save_model(place / "model"))
    group = {"group": "toys", "task": ["toy_choice", "toy_word"],
             "aggregate_metric_list": [{"metric": "acc"}]}  # fmt: skip
    (place / "tasks" / "toys.yaml").write_text(json.dumps(group))
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> lengthwise.Model:
    return lengthwise.load(folder / "model", dtype="fp32")


@pytest.fixture(autouse=True)
def few_of_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the harness's own tasks take ten seconds to look through."""
    arc = TaskManager(include_path=str(SHIPPED / "arc"), include_defaults=False)
    monkeypatch.setattr(tasks_module, "_shipped", lambda: arc)


def loaded(folder: Path, *names: str) -> list[Loaded]:
    return load_tasks(names, folder / "tasks")


def test_recipes_stand_side_by_side_with_full_first(folder: Path, model: lengthwise.Model) -> None:
    found = run_harness(model, loaded(folder, *TASKS), NARROW)
    assert found.recipes == ["full", NARROW]
    assert [(o.recipe, o.name) for o in found.outcomes[:2]] == [
        ("full", "toy_choice"), (NARROW, "toy_choice"),
    ]  # fmt: skip
    rows = {(row.task, row.metric): row for row in score_rows(found)}
    assert len(rows) == 8 and {task for task, _ in rows} == set(TASKS)
    # As the harness scores it, with its intervals where it gives them.
    alone = lm_eval.simple_evaluate(
        LengthwiseLM(model), tasks=list(loaded(folder, "toy_page")[0].parts), bootstrap_iters=0,
        task_manager=loaded(folder, "toy_page")[0].manager,
    )  # fmt: skip
    bits = rows["toy_page", "bits_per_byte"]
    assert bits.cells["full"].value == pytest.approx(
        alone["results"]["toy_page"]["bits_per_byte,none"], rel=1e-6
    )
    assert bits.higher is False and bits.n == 3
    other = bits.cells[NARROW]
    assert other.over_full == pytest.approx(other.value - bits.cells["full"].value)
    assert other.over_full != 0 and other.tested is not None and other.tested.n == 3
    low, high = bits.cells["full"].interval or (0, 0)
    assert low < bits.cells["full"].value < high
    low, high = rows["toy_word", "perplexity"].cells["full"].interval or (0, 0)
    assert 0 < low < rows["toy_word", "perplexity"].cells["full"].value < high
    # Right and wrong ones: Wilson's interval, which has a width where all agree.
    low, high = rows["toy_sum", "exact_match"].cells["full"].interval or (0, 0)
    assert rows["toy_sum", "exact_match"].cells["full"].value == 0.5 and 0.1 < low < high < 0.9


def test_a_run_that_was_killed_goes_on(
    folder: Path, model: lengthwise.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, tasks = tmp_path / "run.jsonl", loaded(folder, "toy_choice", "toy_sum")
    whole = run_harness(model, tasks, NARROW, out=out)
    lines = out.read_bytes().splitlines(keepends=True)
    # A head, four samples of two tasks under two recipes, and a line for each that is done.
    assert len(lines) == 1 + 4 * (4 + 1)
    first = json.loads(lines[1])
    assert first["recipe"] == "full" and first["asked"] == "A bird that swims is seen"
    assert len(first["said"]) == 3 and first["metrics"]["acc"] in (0, 1)
    # Killed in the midst of the third: two of its samples, and a half, are on the disk.
    out.write_bytes(b"".join(lines[:13]) + lines[13][:20])
    asked: list[tuple[str, str]] = []
    evaluate = module._evaluate

    def counting(model: Any, task: Loaded, recipe: str, asking: Asking) -> Outcome:
        asked.append((task.name, recipe))
        return evaluate(model, task, recipe, asking)

    monkeypatch.setattr(module, "_evaluate", counting)
    again = run_harness(model, tasks, NARROW, out=out)
    assert asked == [("toy_sum", "full"), ("toy_sum", NARROW)]
    assert score_rows(again) == score_rows(whole)
    assert out.read_bytes().splitlines(keepends=True) == lines
    # More recipes are added, and what is done is not asked again.
    more = run_harness(model, tasks, [NARROW, "lookup"], out=out)
    assert [recipe for _, recipe in asked[2:]] == ["lookup", "lookup"]
    assert more.recipes == ["full", NARROW, "lookup"]


def test_the_file_of_another_run_is_refused(
    folder: Path, model: lengthwise.Model, tmp_path: Path
) -> None:
    out, tasks = tmp_path / "run.jsonl", loaded(folder, "toy_sum")
    run_harness(model, tasks, out=out, asking=Asking(limit=2))
    with pytest.raises(LengthwiseError, match=r"another limit \(2\)"):
        run_harness(model, tasks, out=out)
    out.write_bytes(out.read_bytes() + b"{}\n")
    with pytest.raises(LengthwiseError, match="line 5 is damaged"):
        run_harness(model, tasks, out=out, asking=Asking(limit=2))
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(LengthwiseError, match="no run of lengthwise"):
        run_harness(model, tasks, out=notes)
    assert notes.read_text() == "mine"
    assert len(run_harness(model, tasks, out=notes, force=True).outcomes) == 1


def test_how_it_is_asked(folder: Path, model: lengthwise.Model) -> None:
    tasks = loaded(folder, "toy_shots")
    few = run_harness(model, tasks, asking=Asking(limit=2, chat=True, batch_size=1))
    samples = few.outcomes[0].samples
    assert [sample.doc for sample in samples] == [0, 1]
    assert "<user>1 plus 2<|endoftext|><assistant>" in samples[0].asked
    # Two examples, each of two messages, as the task says; then one.
    assert samples[0].asked.count("<user>") == 3
    one = run_harness(model, tasks, asking=Asking(limit=2, num_fewshot=1, chat=True))
    assert one.outcomes[0].samples[0].asked.count("<user>") == 2
    again = run_harness(model, loaded(folder, "toy_shots"), asking=Asking(limit=2, chat=True))
    assert again.outcomes[0].samples == samples
    cut = run_harness(model, tasks, asking=Asking(max_length=24, chat=True))
    assert cut.cut == {"toy_shots": 4} and few.cut == {}
    assert all(sample.cut > 0 for sample in cut.outcomes[0].samples)


def test_groups_and_patterns_and_files_are_names(folder: Path, model: lengthwise.Model) -> None:
    found = run_harness(model, loaded(folder, "toys"))
    rows = {(row.task, row.metric): row for row in score_rows(found)}
    both = (rows["toy_choice", "acc"].cells["full"].value
            + rows["toy_word", "acc"].cells["full"].value) / 2  # fmt: skip
    assert rows["toys", "acc"].cells["full"].value == pytest.approx(both)
    file = str(folder / "tasks" / "toy_sum.yaml")
    assert [list(each.leaves()) for each in loaded(folder, "toy_su*", file)] == [["toy_sum"]] * 2


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "no task is given"),
        (("toy_choise",), "did you mean 'toy_choice'"),
        (("arc_easi",), "did you mean 'arc_easy'"),
        (("no_such_*",), r"there is no task 'no_such_\*'"),
        (("nope.yaml",), "there is no such file"),
        (("arc_easy",), "task arc_easy: its data set allenai/ai2_arc ARC-Easy cannot be had"),
        (("absent",), "task absent: its data set json of .*nope.jsonl.* cannot be had"),
    ],
)
def test_a_task_that_cannot_be_had_is_said(folder: Path, names: tuple[str, ...], told: str) -> None:
    files = {"data_files": {"test": "nope.jsonl"}}
    absent = {"task": "absent", "dataset_path": "json", "dataset_kwargs": files,
              "test_split": "test", **TASKS["toy_sum"]}  # fmt: skip
    (folder / "tasks" / "absent.yaml").write_text(json.dumps(absent))
    with pytest.raises(LengthwiseError, match=told):
        loaded(folder, *names)


def test_other_columns_and_other_recipes_are_said(folder: Path, model: lengthwise.Model) -> None:
    data = str(folder / "tasks" / "toy_choice.jsonl")
    other = {"task": "other", "dataset_path": "json", "test_split": "test", **TASKS["toy_sum"],
             "dataset_kwargs": {"data_files": {"test": data}}}  # fmt: skip
    (folder / "tasks" / "other.yaml").write_text(json.dumps(other))
    with pytest.raises(LengthwiseError, match="task other: its data set has other columns"):
        loaded(folder, "other")
    with pytest.raises(Refused, match="bm25 chooses"):
        run_harness(model, [], "bm25")
    with pytest.raises(LengthwiseError, match="include path nope: there is no such folder"):
        load_tasks(["toy_sum"], "nope")
    with pytest.raises(LengthwiseError, match="toy_shots: it has too few documents"):
        run_harness(model, loaded(folder, "toy_shots"), asking=Asking(num_fewshot=9))
    with pytest.raises(LengthwiseError, match="limit"):
        Asking(limit=0)


def outcome(recipe: str, right: list[int]) -> Outcome:
    samples = [
        HarnessSample(recipe, "t", n, "none", "", 1, "", {"acc": float(hit)}, 7 * (n == 0))
        for n, hit in enumerate(right)
    ]
    score = Score(sum(right) / len(right), 0.1, len(right), True)
    scores = {"acc,none": score, "f,strict": Score(5e4, None, 3)}
    return Outcome(recipe, "t", {"t": scores}, samples)


def test_the_table_shows_what_differs() -> None:
    made = HarnessRun(["full", "snapkv"], [
        outcome("full", [1] * 18 + [0] * 2), outcome("snapkv", [0] * 12 + [1] * 8),
    ])  # fmt: skip
    rows = score_rows(made)
    cell = rows[0].cells["snapkv"]
    assert cell.over_full == pytest.approx(-0.5)
    assert cell.tested is not None and cell.tested.p < 0.05
    assert rows[1].metric == "f (strict)" and rows[1].cells["full"].interval is None
    shown = io.StringIO()
    show_scores(rows, made.recipes, made.cut, shown)
    text = shown.getvalue()
    assert "acc ↑" in text and "-0.500 p=0.0" in text and "0.900 [0.699..0.972]" in text
    assert "5e+04" in text and "t: 1 sample longer than the model" in text
    assert all(len(line) <= 100 for line in text.splitlines())
    assert number(0.12345, sign=True) == "+0.123" and number(123456.0) == "1.235e+05"
