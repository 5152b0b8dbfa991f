"""LongBench-Write of rows in its format: ranges, languages, room for a reply, length scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import Sample
from lengthwise.evaluation.tasks.published.longbench_write import MOST, LongBenchWrite
from tests.evaluation.tasks.published.published_cases import task_of, wanted, write

ENGLISH, CHINESE = "Write a tale of a boat", "\u5199\u4e00\u7bc7\u5173\u4e8e\u5c0f\u8239"
WORDS = (100, 499, 500, 1999, 2000, 4000, 20_000)


def rows(folder: Path, name: str = "longbench_write.jsonl") -> None:
    every = [
        {"prompt": f"{text}, {words} words", "type": "Tales", "length": words}
        for text in (ENGLISH, CHINESE) for words in WORDS
    ]  # fmt: skip
    write(folder, name, every)


def asked(samples: list[Sample]) -> list[int]:
    return [int(each.references[0]) for each in samples]


@pytest.mark.parametrize("task, words", [
    ("500", [100, 499]), ("2k", [500, 1999]), ("4k", [2000]), ("20k", [4000, 20_000]),
])  # fmt: skip
def test_a_task_is_a_language_and_a_range(task: str, words: list[int], tmp_path: Path) -> None:
    rows(tmp_path)
    for language, text in (("en", ENGLISH), ("zh", CHINESE)):
        samples = task_of("longbench_write", tmp_path, f"{language}_{task}").samples(wanted())
        assert asked(samples) == words
        assert all(each.question.startswith(text) and not each.context for each in samples)
    assert len(LongBenchWrite.tasks) == 10


def test_the_score_is_that_of_the_length(tmp_path: Path) -> None:
    rows(tmp_path)
    task = task_of("longbench_write", tmp_path, "en_500")
    sample, _ = task.samples(wanted())
    assert sample.facts == {"request": sample.question, "kind": "Tales", "words": 100}
    right = task.score("boat " * 100, sample)
    assert right == {"length_score": 1.0, "reached": 1.0, "words": 100.0}
    assert task.score("boat " * 50, sample) == {"length_score": 0.5, "reached": 0.5, "words": 50.0}
    assert task.score("boat " * 250, sample)["length_score"] == 0.5
    assert task.score("\u8239" * 100, sample)["words"] == 100.0
    assert task.score("1 2 3", sample) == {"length_score": 0.0, "reached": 0.0, "words": 0.0}


def test_a_reply_has_the_room_that_is_left(tmp_path: Path) -> None:
    rows(tmp_path)
    task = task_of("longbench_write", tmp_path, "en_20k")
    for length in (4200, 30_000, 100_000):
        wish = wanted(length)
        samples = task.samples(wish)
        assert asked(samples) == ([4000] if length == 4200 else [4000, 20_000])
        # What is passed over is said, and stands in the run.
        passed = "1 of 2 samples drawn are longer than 4,200 tokens and left out"
        assert wish.notes == [f"longbench_write/en_20k: {passed}"] * (length == 4200)
        for each in samples:
            assert wanted(length).size(each) == min(length, wanted().size(each))
            assert each.most <= MOST
    with pytest.raises(LengthwiseError, match="en_20k has no samples of 4,000 tokens"):
        task.samples(wanted(4000))


def test_other_files_serve_the_stress_test_and_english_alone(tmp_path: Path) -> None:
    rows(tmp_path, "longbench_write_en.jsonl")
    assert len(task_of("longbench_write", tmp_path, "en_2k").samples(wanted())) == 2
    with pytest.raises(LengthwiseError, match=r"give longbench_write\(data=FOLDER\)"):
        task_of("longbench_write", tmp_path, "zh_2k")
    rows(tmp_path, "longwrite_ruler.jsonl")
    assert asked(task_of("longbench_write", tmp_path, "ruler_zh").samples(wanted())) == list(WORDS)


def test_a_length_below_one_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "longbench_write.jsonl", [{"prompt": ENGLISH, "type": "Tales", "length": 0}])
    with pytest.raises(LengthwiseError, match="row 1 .*'length' holds 0; wanted is 1 or more"):
        task_of("longbench_write", tmp_path, "en_500").samples(wanted())
