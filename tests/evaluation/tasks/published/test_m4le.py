"""M4LE of rows in its format: buckets, end strings, and the figure of each task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lengthwise.evaluation.tasks.benchmark import tasks_of
from lengthwise.evaluation.tasks.published.m4le import KINDS, M4LE
from tests.evaluation.tasks.published.published_cases import task_of, wanted, write


def row(task: str, bucket: int = 1000) -> dict[str, Any]:
    kind = KINDS[task]
    if kind.score == "ids":
        answer = "a1b2c3，d4e5f6。" if kind.chinese else "a1b2c3, d4e5f6."
    else:
        answer = "一艘小船离开了港口" if kind.chinese else "a boat left the old harbour"
    return {
        "instruction": "You get some short texts.", "answers": [answer], "length_bucket": bucket,
        "input": "Text 1: one boat." + " more" * (bucket // 10) + "\n\nWhat left?\nAnswer:",
    }  # fmt: skip


@pytest.mark.parametrize("task", list(M4LE.tasks))
def test_a_right_reply_scores_one_and_a_wrong_one_does_not(task: str, tmp_path: Path) -> None:
    write(tmp_path, f"data/{task}.jsonl", [row(task)])
    found = task_of("m4le", tmp_path, task)
    (sample,) = found.samples(wanted())
    said = row(task)["answers"][0]
    assert next(iter(found.score(said, sample).values())) == pytest.approx(1.0)
    assert next(iter(found.score("zzz", sample).values())) == 0.0
    for end in KINDS[task].ends:
        assert next(iter(found.score(f"{said}{end} zzz", sample).values())) == pytest.approx(1.0)


def test_a_prompt_to_the_letter(tmp_path: Path) -> None:
    write(tmp_path, "newsqa.jsonl", [row("newsqa", 10)])
    (sample,) = task_of("m4le", tmp_path, "newsqa").samples(wanted())
    assert sample.context == "You get some short texts.\nText 1: one boat. more"
    assert sample.question == "What left?\nAnswer:" and not sample.chat
    assert sample.stop == ("\n", ".") and sample.most == 128


def test_ids_are_a_set(tmp_path: Path) -> None:
    write(tmp_path, "marc.jsonl", [row("marc")])
    task = task_of("m4le", tmp_path, "marc")
    (sample,) = task.samples(wanted())
    assert sample.references == ("a1b2c3", "d4e5f6")
    assert task.score("d4e5f6, a1b2c3", sample) == {"id_f1": 1.0}
    assert task.score("d4e5f6, 000000", sample) == {"id_f1": 0.5}


def test_a_translation_without_four_right_tokens_in_a_row_scores_nothing(tmp_path: Path) -> None:
    write(tmp_path, "tedtalks-zh2en.jsonl", [row("tedtalks-zh2en")])
    task = task_of("m4le", tmp_path, "tedtalks-zh2en")
    (sample,) = task.samples(wanted())
    assert task.score("a boat left an old harbour", sample) == {"bleu": 0.0}
    # Right are 5 of 6 words, 3 of 5 pairs, 2 of 4 triples and 1 of 3 fours.
    found = task.score("a boat left the new harbour", sample)["bleu"]
    assert found == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)


def test_the_longest_bucket_that_fits_is_taken(tmp_path: Path) -> None:
    write(tmp_path, "wow.jsonl", [row("wow", size) for size in (1000, 2000, 2000, 8000)])
    task = task_of("m4le", tmp_path, "wow")
    assert [each.facts["bucket"] for each in task.samples(wanted(1500))] == [2000, 2000]


def test_the_hubs_files_lie_below_their_kind_of_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "summarization/clts.jsonl", [row("clts+")])

    def download(name: str, path: str, *, repo_type: str) -> str:
        assert (name, repo_type) == ("wckwan/M4LE", "dataset")
        return str(tmp_path / path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    (task,) = tasks_of("m4le/clts+")
    assert len(task.samples(wanted())) == 1
    # In a folder it is found under either name.
    assert len(task_of("m4le", tmp_path, "clts+").samples(wanted())) == 1
    paths = {name: M4LE().source(name).path for name in M4LE.tasks}
    assert paths["marc"] == "classification/marc.jsonl" and len(set(paths.values())) == 39
