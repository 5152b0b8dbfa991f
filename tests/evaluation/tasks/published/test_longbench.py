"""LongBench of rows in its format: prompts, scores of right replies, cut middles, errors."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import TEMPLATE, tasks_of
from lengthwise.evaluation.tasks.published.longbench import EVEN, SETS, LongBench
from tests.evaluation.tasks.published.published_cases import task_of, wanted, write

CLASSES = ["Food", "Food and drink", "Sport"]
ANSWERS = {
    "f1": ["a grey tower", "the tower"], "f1-zh": ["一座灰色的塔"], "classes": ["Sport"],
    "rouge": ["The boat left at ten."], "rouge-zh": ["会议在十点结束。"], "numbers": ["8"],
    "code": ["return total"],
}  # fmt: skip


def row(task: str) -> dict[str, object]:
    score = SETS[task.removesuffix("_e")].score
    return {
        "input": "What stands on the hill?", "context": "A grey tower stands on the hill.",
        "answers": ANSWERS[score], "length": 7, "dataset": task, "language": "en",
        "all_classes": CLASSES if score == "classes" else None, "_id": "1",
    }  # fmt: skip


def test_all_sets_are_there() -> None:
    assert len(SETS) == 21 and len(EVEN) == 13
    assert len(tasks_of("longbench")) == 34


@pytest.mark.parametrize("task", list(LongBench.tasks))
def test_a_right_reply_scores_one_and_a_wrong_one_does_not(task: str, tmp_path: Path) -> None:
    write(tmp_path, f"data/{task}.jsonl", [row(task)])
    (sample,) = task_of("longbench", tmp_path, task).samples(wanted())
    found = task_of("longbench", tmp_path, task)
    for reference in sample.references:
        (score,) = found.score(reference, sample).values()
        assert score == pytest.approx(1.0)
    assert next(iter(found.score("zebra", sample).values())) < 0.4
    assert found.score("", sample) == dict.fromkeys(found.score("", sample), 0.0)


def test_a_prompt_to_the_letter(tmp_path: Path) -> None:
    write(tmp_path, "hotpotqa.jsonl", [row("hotpotqa")])
    (sample,) = task_of("longbench", tmp_path, "hotpotqa").samples(wanted())
    assert sample.context == "A grey tower stands on the hill."
    assert sample.question == (
        "Answer the question from the passages above, in as few words as you can and nothing else."
        "\n\nQuestion: What stands on the hill?"
    )
    assert sample.most == 32 and sample.chat and sample.references == ("a grey tower", "the tower")


def test_few_shot_sets_read_the_first_line_without_a_template(tmp_path: Path) -> None:
    write(tmp_path, "trec.jsonl", [row("trec")])
    task = task_of("longbench", tmp_path, "trec")
    (sample,) = task.samples(wanted())
    assert not sample.chat and sample.question == "What stands on the hill?"
    assert task.score("\nSport\nFood", sample) == {"label_in_prediction": 1.0}
    assert task.score("Food, Sport", sample) == {"label_in_prediction": 0.5}


def test_the_released_fault_of_classes_can_be_left_out(tmp_path: Path) -> None:
    rows = [{**row("trec"), "all_classes": ["Food", "Food and", "Food and drink"],
             "answers": ["Food and drink"]}]  # fmt: skip
    write(tmp_path, "trec.jsonl", rows)
    for compat, right in (("true", 0.5), ("false", 1.0)):
        (task,) = tasks_of(f"longbench(data={tmp_path}, compat={compat})/trec")
        (sample,) = task.samples(wanted())
        assert task.score("Type: Food and drink", sample) == {"label_in_prediction": right}


@pytest.mark.parametrize("length", [400, 1000, 4000])
def test_what_is_too_long_loses_its_middle_and_says_so(length: int, tmp_path: Path) -> None:
    text = "".join(f"line {n}\n" for n in range(2000))
    write(tmp_path, "gov_report.jsonl", [{**row("gov_report"), "context": text}])
    task = task_of("longbench", tmp_path, "gov_report")
    if length < 512 + TEMPLATE:
        with pytest.raises(LengthwiseError, match=r"400 tokens has no room .* reply of 512"):
            task.samples(wanted(length))
        return
    (sample,) = task.samples(wanted(length))
    assert wanted(length).fits(sample)
    assert len(sample.context) + len(sample.question) + 512 + TEMPLATE > length - 16
    half = len(sample.context) // 2
    assert text.startswith(sample.context[:half]) and text.endswith(sample.context[half:])
    assert sample.facts["cut_tokens"] == len(text) - len(sample.context)
    (whole,) = task.samples(wanted(100_000))
    assert whole.context == text and "cut_tokens" not in whole.facts


def test_samples_are_drawn_by_the_seed_in_the_published_order(tmp_path: Path) -> None:
    rows = [{**row("musique"), "input": str(n)} for n in range(50)]
    write(tmp_path, "musique.jsonl", rows)
    task = task_of("longbench", tmp_path, "musique")

    def inputs(length: int, seed: int) -> list[int]:
        asked = task.samples(wanted(length, samples=5, seed=seed))
        return [int(sample.question.split()[-1]) for sample in asked]

    assert inputs(1000, 0) == inputs(100_000, 0) == sorted(inputs(1000, 0))
    assert inputs(1000, 0) != inputs(1000, 1)
    assert len(task.samples(wanted(samples=99))) == 50


def test_data_that_is_not_there_or_has_other_columns(tmp_path: Path) -> None:
    with pytest.raises(LengthwiseError, match=r"longbench.*/trec needs its published file, which "):
        task_of("longbench", tmp_path, "trec").samples(wanted())
    write(tmp_path, "trec.jsonl", [{"input": "a", "text": "b"}])
    with pytest.raises(LengthwiseError) as error:
        task_of("longbench", tmp_path, "trec").samples(wanted())
    assert "longbench/trec: row 1 of" in str(error.value)
    assert "wanted are input, context, answers, all_classes; found are input, text" in str(
        error.value
    )
    for damaged in ("{", "[" * 100_000, "\ud800"):
        (tmp_path / "trec.jsonl").write_text(damaged, "utf-8", "surrogatepass")
        with pytest.raises(LengthwiseError, match="cannot be read"):
            task_of("longbench", tmp_path, "trec").samples(wanted())
    write(tmp_path, "trec.jsonl", [])
    with pytest.raises(LengthwiseError, match="has no rows"):
        task_of("longbench", tmp_path, "trec").samples(wanted())


def test_what_is_missing_is_known_before(tmp_path: Path) -> None:
    write(tmp_path, "trec.jsonl", [row("trec")])
    given = LongBench(data=str(tmp_path))
    assert given.missing("trec") == "" and LongBench().missing("lsht") == ""
    assert "longbench(data=FOLDER) with lsht.jsonl" in given.missing("lsht")
    # One file serves the task that its name says.
    alone = LongBench(data=str(tmp_path / "trec.jsonl"))
    assert alone.missing("trec") == "" and "lsht.jsonl" in alone.missing("lsht")


def test_the_hubs_archive_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "trec.jsonl", [row("trec")])
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.write(tmp_path / "trec.jsonl", "data/trec.jsonl")

    def download(name: str, path: str, *, repo_type: str) -> str:
        assert (name, path, repo_type) == ("THUDM/LongBench", "data.zip", "dataset")
        return str(tmp_path / "data.zip")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    (task,) = tasks_of("longbench/trec")
    (sample,) = task.samples(wanted())
    assert sample.references == ("Sport",)

    def refuse(*_: object, **__: object) -> str:
        raise OSError("this data set is gated\nand more")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(LengthwiseError, match=r"THUDM/LongBench cannot be loaded \(this data set"):
        task.samples(wanted())
