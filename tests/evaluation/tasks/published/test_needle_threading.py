"""Needle Threading of rows in its format: values, lists of them, published lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import tasks_of
from lengthwise.evaluation.tasks.published.needle_threading import NeedleThreading
from tests.evaluation.tasks.published.published_cases import task_of, wanted, write

FILES = {
    "single_needle": "Single_Needle", "multi_needle": "Multiple_Needles",
    "conditional_needle": "Conditional_Needles", "single_thread": "Single_Threads",
    "multi_thread": "Multi_Threads",
}  # fmt: skip


def row(task: str, characters: int = 500) -> dict[str, Any]:
    several = "single" not in task
    hay = json.dumps({f"k{n}": f"v{n}" for n in range(characters // 10)})
    return {
        "id": 1, "haystack": hay, "keys": "k7", "values": "['v7', 'v9']" if several else "v7",
        "question": 'Name the value of "k7"\n It is: ', "context_length": characters,
        "needle_depth": "N/A" if several else "50",
    }  # fmt: skip


@pytest.mark.parametrize("task", list(NeedleThreading.tasks))
def test_a_right_reply_scores_one_and_a_wrong_one_does_not(task: str, tmp_path: Path) -> None:
    write(tmp_path, f"json_data/{FILES[task]}.json", [row(task)])
    found = task_of("needle_threading", tmp_path, task)
    (sample,) = found.samples(wanted())
    assert sample.question == 'Name the value of "k7"\n It is:'
    assert sample.depth == (0.5 if "single" in task else None)
    said = str(list(sample.references)) if "single" not in task else "'v7'"
    assert next(iter(found.score(said, sample).values())) == 1.0
    assert next(iter(found.score("v1", sample).values())) == 0.0


def test_places_count_but_for_the_condition(tmp_path: Path) -> None:
    for task, right in (("multi_needle", 0.0), ("conditional_needle", 1.0)):
        write(tmp_path, f"{FILES[task]}.json", [row(task)])
        found = task_of("needle_threading", tmp_path, task)
        (sample,) = found.samples(wanted())
        assert found.score("['v9', 'v7']", sample) == {"thread_values": right}


def test_the_longest_length_that_fits_is_taken_and_never_cut(tmp_path: Path) -> None:
    rows = [row("single_needle", size) for size in (500, 500, 1000, 4000)]
    write(tmp_path, "Single_Needle.json", rows)
    task = task_of("needle_threading", tmp_path, "single_needle")
    for length, count, characters in ((1200, 2, 500), (3000, 1, 1000), (50_000, 1, 4000)):
        samples = task.samples(wanted(length))
        assert [each.facts["characters"] for each in samples] == [characters] * count
        assert all(wanted(length).fits(each) for each in samples)
    with pytest.raises(LengthwiseError, match=r"no samples of 300 tokens: its shortest \(context"):
        task.samples(wanted(300))


def test_the_hubs_rows_are_loaded_by_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, config: str | None, *, split: str) -> list[dict[str, Any]]:
        assert (name, config) == ("jonathan-roberts1/needle-threading", None)
        assert split == "Multi_Thread"
        return [row("multi_thread")]

    monkeypatch.setattr("datasets.load_dataset", load)
    (task,) = tasks_of("needle_threading/multi_thread")
    assert task.samples(wanted())[0].references == ("v7", "v9")
