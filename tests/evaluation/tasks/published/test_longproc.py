"""LongProc: rows of the hub and of the authors' repository, in words of ours; scores, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.sandbox import cpp
from lengthwise.evaluation.sandbox.cpp import compiler_missing
from lengthwise.evaluation.tasks.benchmark import Sample, tasks_of
from lengthwise.evaluation.tasks.published.longproc import KINDS, LongProc
from tests.evaluation.tasks.published.published_cases import task_of, wanted, write

TABLE = "name\tyear\nOld Mill\t1801\nTown Hall\t1899"
ROUTE = "Bus from Aldby to Carrow.\nTrain from Carrow to Orrest."
MINDS = "- Step 1: Mara thinks box\n- Step 2: Tom thinks box"
SOLUTION = "<Solution>\n5 + 3 = 8\n11 - 8 = 3\n7 * 3 = 21\n</Solution>"
FOUND = "Now we have found the target"
PLAN = "**Day 1-3:** Stay in Rome.\n**Day 3:** Fly from Rome to Oslo.\n**Day 3-7:** Stay in Oslo."


def search(*lines: str) -> str:
    return "\n".join(["<Search Procedure>", *lines, "</Search Procedure>", "", FOUND, SOLUTION])


def puzzle(nums: list[int], target: int) -> dict[str, Any]:
    lines = (
        f"Numbers {nums}, {target}.",
        "|- Pick two numbers (3, 5)",
        " |- Try 5 + 3 = 8. Go on.",
    )
    return {"nums": nums, "target": target, "demonstration": search(*lines)}


TRIP = {
    "disambig_question_text": "Rome and Oslo.\n\nFlights: Rome to Oslo.\n\nPlan it.",
    "constraints": [
        {"type": "duration", "city": "Oslo", "num_days": 5},
        {"type": "fixed", "city": "Oslo", "start_day": 3, "end_day": 7},
        {"type": "duration", "city": "Rome", "num_days": 3},
    ],
    "connected_cities": [["Rome", "Oslo"]], "ground_truth_plan": f"Here it is:\n\n{PLAN}",
    "ground_truth_cities": "Rome**Oslo", "ground_truth_durations": "3**5",
    "estimated_output_tokens": 300,
}  # fmt: skip
# Of the authors' repository: a row, and the prompt beside it.
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "html_to_tsv": (
        {"html_path": "webpage/a.html", "task_topic": "houses", "task_description": "name; year",
         "gt": TABLE, "tsv_header": "name\tyear", "filtering_instruction": "\nOld ones."},
        "Read.\n\n{html_str}\n\nOf {task_topic}: {task_description}{filtering_instruction}\n\n"
        "{tsv_header}\n{{rows}}\n\nNotes.\n\nNow do it.",
    ),
    "pseudo_to_code": (
        {"pseudocode_lines": ["read a and b", "print their sum"],
         "code_lines": ["int main() {", "int a, b; cin >> a >> b;", "cout << a + b << endl; }"],
         "testcases": [[["1 2"], ["3"]], [["4 5"], ["9"]]]},
        "Write C++ for this:\n{pseudocode}\n\nIn a block of ```cpp.",
    ),
    "path_traversal": (
        {"context_nl": "From Aldby a bus goes to Carrow.", "question_repr": ["Aldby", "Orrest"],
         "answer_nl": ROUTE},
        "Find a way.\n{city_context}\n\nNow go from {src_city} to {dst_city}.",
    ),
    "tom_tracking": (
        {"story": "Mara puts the key into the box.", "question": "Where is {{it}}?",
         "solution": MINDS},
        "Follow this:\n{story}\n\nAsked: {question} {{x}}\n\nYours:",
    ),
    "countdown": (
        puzzle([3, 5, 7, 11], 21), "Search.\n\n{demonstration}\n\nNumbers: {nums}\nTarget: {target}"
    ),
    "travel_planning": (TRIP, "Plan.\n\n{demonstration}\n\nYours:\n\n{problem}"),
}  # fmt: skip


def files(folder: Path, kind: str, level: str) -> None:
    """The authors' folder of a kind, with what its prompt shows."""
    row, prompt = ROWS[kind]
    name = "travel_planning_all" if kind == "travel_planning" else f"{kind}_{level}"
    quoted = json.dumps(prompt)
    write(folder, f"{kind}/{name}.json", [row])
    (folder / kind / "prompts.yaml").write_text(f"USER_PROMPT: {quoted}\n", encoding="utf-8")
    if kind == "html_to_tsv":
        (folder / kind / "webpage").mkdir()
        (folder / kind / "webpage" / "a.html").write_text("<p>{a} Old Mill</p>", encoding="utf-8")
    if kind == "countdown":
        write(folder, f"{kind}/countdown_0.5k.json", [row, puzzle([40, 19, 23, 7], 29)])
        write(folder, f"{kind}/countdown_8k.json", [row, puzzle([9, 16, 6, 18], 12)])
    if kind == "travel_planning":
        write(folder, f"{kind}/travel_planning_icl_examples.json", [TRIP])


def sample_of(folder: Path, task: str) -> Sample:
    return task_of("longproc", folder, task).samples(wanted())[0]


def shown(sample: Sample) -> str:
    return f"{sample.context}\n\n{sample.question}"


@pytest.fixture(autouse=True)
def _leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """To run code."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")


def test_six_procedures_have_sixteen_levels() -> None:
    assert len(KINDS) == len(ROWS) == 6 and len(LongProc.tasks) == 16
    assert not {"travel_planning_0.5k", "pseudo_to_code_8k"} & set(LongProc.tasks)


@pytest.mark.parametrize("task", ["html_to_tsv_2k", "path_traversal_8k", "tom_tracking_0.5k"])
def test_a_template_is_filled_with_a_row(task: str, tmp_path: Path) -> None:
    kind, _, level = task.rpartition("_")
    files(tmp_path, kind, level)
    sample = sample_of(tmp_path, task)
    assert sample.most == {"0.5k": 1024, "2k": 3072, "8k": 9216}[level]
    assert (sample.context, sample.question) == {
        "html_to_tsv": (
            "Read.\n\n<p>{a} Old Mill</p>",
            "Of houses: name; year\nOld ones.\n\nname\tyear\n{rows}\n\nNotes.\n\nNow do it.",
        ),
        "path_traversal": (
            "Find a way.\nFrom Aldby a bus goes to Carrow.", "Now go from Aldby to Orrest."
        ),
        "tom_tracking": (
            "Follow this:\nMara puts the key into the box.",
            "Asked: Where is {{it}}? {x}\n\nYours:",
        ),
    }[kind]  # fmt: skip


def test_searches_of_countdown_are_shown_from_its_files(tmp_path: Path) -> None:
    files(tmp_path, "countdown", "0.5k")
    sample = sample_of(tmp_path, "countdown_0.5k")
    assert sample.question == "Numbers: [3, 5, 7, 11]\nTarget: 21"
    assert sample.references[0].startswith(
        "# Search Procedure\nNumbers [3, 5, 7, 11], 21.\n|- Pick"
    )
    assert sample.references[0].endswith(f"Go on.\n\n{FOUND}\n{SOLUTION}")
    first, second = sample.context.split("# Example\n")[1:]
    assert first.startswith(
        "Numbers: [40, 19, 23, 7]\nTarget: 29\n\n# Search Procedure\nNumbers [40"
    )
    assert second.startswith("Numbers: [9, 16, 6, 18]\nTarget: 12\n\n# Search Procedure\n")
    write(tmp_path, "countdown/countdown_8k.json", [puzzle([1, 2, 3, 4], 5)])
    write(tmp_path, "countdown/countdown_0.5k.json", [ROWS["countdown"][0]])
    with pytest.raises(
        LengthwiseError, match=r"lacks the numbers \[40, 19, 23, 7\] with target 29"
    ):
        sample_of(tmp_path, "countdown_0.5k")


def test_trips_are_of_the_level_of_their_length(tmp_path: Path) -> None:
    files(tmp_path, "travel_planning", "")
    sample = sample_of(tmp_path, "travel_planning_2k")
    assert sample.question == TRIP["disambig_question_text"]
    assert sample.facts == {"cities": ["Rome", "Oslo"], "days": [3, 5]}
    assert sample.references[0] in sample.context and sample.context.endswith("Yours:")
    with pytest.raises(LengthwiseError, match="no row of its data is of this task"):
        sample_of(tmp_path, "travel_planning_8k")


CODE = "\n".join(ROWS["pseudo_to_code"][0]["code_lines"])
RIGHT = {
    "pseudo_to_code": (
        f"```cpp\n{CODE}\n```", "```c++\nint main() { cout << 3 << endl; }\n```",
        {"accuracy": 0.0, "partial": 0.5, "extracted": 1.0},
    ),
    "html_to_tsv": (f"```tsv\n{TABLE}\n```", "name\tyear\nOld Mill\t1801", {"f1": 2 / 3}),
    "path_traversal": (
        f"<Route>\n{ROUTE}\n</Route>", "<Route>\nBus from Aldby to Carrow.\n</Route>",
        {"accuracy": 0.0, "partial": 0.5, "extracted": 1.0},
    ),
    "tom_tracking": (
        MINDS, "- Step 1: Mara thinks box", {"accuracy": 0.0, "partial": 0.5, "extracted": 1.0}
    ),
    "countdown": (
        SOLUTION, "# Search Procedure\nNumbers [3, 5, 7, 11], 21.\n|- Pick two numbers (3, 5)\nx",
        {"accuracy": 0.0, "partial": 0.5, "extracted": 0.0},
    ),
    "travel_planning": (
        f"<Plan>\n{PLAN}\n</Plan>", "<Plan>\nRome\n</Plan>",
        {"accuracy": 0.0, "partial": 0.0, "extracted": 1.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(KINDS))
def test_right_replies_score_one_and_half_of_one_less(kind: str, tmp_path: Path) -> None:
    if kind == "pseudo_to_code" and compiler_missing():
        pytest.skip("no C++ compiler")
    files(tmp_path, kind, "2k")
    task = task_of("longproc", tmp_path, f"{kind}_2k")
    (sample,) = task.samples(wanted())
    right, half, figures = RIGHT[kind]
    assert set(task.score(right, sample).values()) == {1.0}
    found = task.score(half, sample)
    assert {name: found[name] for name in figures} == pytest.approx(figures)
    nothing = task.score("zebra", sample)
    assert nothing == dict.fromkeys(nothing, 0.0)


def test_leave_to_run_code_and_a_compiler_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, "pseudo_to_code", "2k")
    monkeypatch.setattr(cpp.shutil, "which", lambda name: None)
    with pytest.raises(LengthwiseError, match=r"needs a C\+\+ compiler: install one of g\+\+"):
        task_of("longproc", tmp_path, "pseudo_to_code_2k")
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL")
    with pytest.raises(LengthwiseError, match="needs leave to run the code"):
        task_of("longproc", tmp_path, "pseudo_to_code_2k")


def test_code_that_is_none_scores_nothing(tmp_path: Path) -> None:
    if compiler_missing():
        pytest.skip("no C++ compiler")
    files(tmp_path, "pseudo_to_code", "0.5k")
    task = task_of("longproc", tmp_path, "pseudo_to_code_0.5k")
    (sample,) = task.samples(wanted())
    assert sample.context == "Write C++ for this:\nread a and b\nprint their sum"
    assert sample.question == "In a block of ```cpp." and sample.most == 1024
    assert sample.references == (CODE,)
    for wrong in ("```cpp\nint main( {}\n```", "int main() {}", ""):
        found = task.score(wrong, sample)
        assert found["accuracy"] == found["partial"] == 0.0
    write(tmp_path, "pseudo_to_code/pseudo_to_code_0.5k.json",
          [{**ROWS["pseudo_to_code"][0], "testcases": [[["1 2"], [3]]]}])  # fmt: skip
    with pytest.raises(LengthwiseError, match="row 1 .*'testcases' holds no list of lines"):
        task.samples(wanted())


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_hubs_rows_are_the_same_samples(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, kind, "2k")
    right, name = sample_of(tmp_path, f"{kind}_2k"), f"{kind}_2k"
    row = {
        "input_prompt": shown(right), "reference_output": right.references[0],
        "metadata": json.dumps(ROWS[kind][0]),
    }  # fmt: skip
    (tmp_path / "hub" / name).mkdir(parents=True)
    path = tmp_path / "hub" / name / "test-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    assert sample_of(tmp_path / "hub", name) == right
    assert sample_of(path, name) == right

    def load(hub: str, config: str | None, *, split: str) -> list[dict[str, Any]]:
        assert (hub, config, split) == ("PrincetonPLI/LongProc", name, "test")
        return [row]

    monkeypatch.setattr("datasets.load_dataset", load)
    assert tasks_of(f"longproc/{name}")[0].samples(wanted()) == [right]


def test_pages_that_are_too_long_are_passed_over_and_others_refused(tmp_path: Path) -> None:
    def rows(task: str, *sizes: int) -> None:
        lines = [
            {"input_prompt": "x" * size + "\n\na\n\nb\n\nc\n\nd", "reference_output": TABLE,
             "metadata": "{}"} for size in sizes
        ]  # fmt: skip
        write(tmp_path, f"{task}.jsonl", lines)

    rows("html_to_tsv_2k", 100, 90_000, 200)
    task = task_of("longproc", tmp_path, "html_to_tsv_2k")
    assert [len(each.context) for each in task.samples(wanted(4000))] == [100, 200]
    assert len(task.samples(wanted())) == 3 and len(task.samples(wanted(4000, samples=1))) == 1
    with pytest.raises(LengthwiseError, match="no samples of 3,150 tokens"):
        task.samples(wanted(3150))
    rows("tom_tracking_2k", 100, 90_000)
    with pytest.raises(LengthwiseError, match="sample 2 of longproc/tom_tracking_2k is longer"):
        task_of("longproc", tmp_path, "tom_tracking_2k").samples(wanted(4000))


@pytest.mark.parametrize("change, said", [
    ({"html_path": "webpage/none.html"}, "none.html cannot be read (.*; it is published beside"),
    ({"html_path": "../../secret"}, "row 1 .* which leaves the data's folder"),
    ({"gt": None}, "row 1 .*'gt' holds null; wanted is a text"),
])  # fmt: skip
def test_pages_must_lie_below_the_data(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    files(tmp_path, "html_to_tsv", "0.5k")
    write(tmp_path, "html_to_tsv/html_to_tsv_0.5k.json", [{**ROWS["html_to_tsv"][0], **change}])
    with pytest.raises(LengthwiseError, match=said.replace("(", r"\(")):
        sample_of(tmp_path, "html_to_tsv_0.5k")


@pytest.mark.parametrize("change, said", [
    ({"connected_cities": []}, "the constraints have no plan"),
    ({"constraints": "none"}, "row 1 of its data is not as it is published"),
    ({"ground_truth_durations": "3"}, "2 cities and 1 stays"),
    ({"constraints": [{"type": "duration", "city": f"c{n}", "num_days": 2} for n in range(9)]},
     "longer than 20,000 lines"),
])  # fmt: skip
def test_trips_without_a_plan_are_refused(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    files(tmp_path, "travel_planning", "")
    flights = [[f"c{a}", f"c{b}"] for a in range(8) for b in range(8) if a != b]
    row = {**TRIP, "connected_cities": [["Rome", "Oslo"], *flights], **change}
    write(tmp_path, "travel_planning/travel_planning_all.json", [row])
    with pytest.raises(LengthwiseError, match=said):
        sample_of(tmp_path, "travel_planning_2k")


def test_prompts_must_lie_beside_the_data(tmp_path: Path) -> None:
    files(tmp_path, "tom_tracking", "8k")
    path = tmp_path / "tom_tracking" / "prompts.yaml"
    for wrong in ("OTHER: text\n", "USER_PROMPT: no field\n", "[" * 900):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(LengthwiseError, match="it is published beside|has no USER_PROMPT with"):
            sample_of(tmp_path, "tom_tracking_8k")
    path.unlink()
    with pytest.raises(LengthwiseError, match="cannot be read"):
        sample_of(tmp_path, "tom_tracking_8k")
