"""CharBench of rows in its format: questions, replies, and rows made of one's own words."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.published.charbench import CharBench, questions
from tests.evaluation.tasks.published.published_cases import task_of, wanted

WORDS = ["banana", "Level", "kitten", "pepper", "tower", "Aa", "mill", "oak"]


def write_table(folder: Path, words: list[str]) -> list[dict[str, str]]:
    rows = list(questions(words))
    with open(folder / "benchmark_english.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_answers_of_a_known_word() -> None:
    for task, right in (
        ("count_unique_chars", "3"), ("count_character_frequency", {"a": "3", "b": "1", "n": "2"}),
        ("find_first_occurrence", {"a": "1", "b": "0", "n": "2"}),
        ("find_last_occurrence", {"a": "5", "b": "0", "n": "4"}),
    ):  # fmt: skip
        (row,) = (row for row in questions(["banana"] * 4, seed=3) if row["task"] == task)
        wanted = right if isinstance(right, str) else right[row["character"]]
        assert row["answer"] == wanted


def test_a_word_has_one_question_and_all_tasks_have_as_many() -> None:
    rows = list(questions(WORDS))
    assert [row["word"] for row in rows] == WORDS
    assert [row["task"] for row in rows] == [task for task in CharBench.tasks for _ in range(2)]
    assert list(questions(WORDS)) == rows and list(questions(WORDS, seed=1)) != rows


@pytest.mark.parametrize("task", CharBench.tasks)
def test_a_number_alone_is_right(task: str, tmp_path: Path) -> None:
    rows = [row for row in write_table(tmp_path, WORDS) if row["task"] == task]
    found = task_of("charbench", tmp_path, task)
    for sample, row in zip(found.samples(wanted()), rows, strict=True):
        assert sample.facts["word"] == row["word"] and row["question"] in sample.question
        assert sample.references == (row["answer"],)
        right = int(row["answer"])
        assert found.score(f" {right}\n", sample) == {
            "right": 1.0, "number": 1.0, "first_number": 1.0,
        }  # fmt: skip
        assert found.score(f"{right + 1}", sample) == {
            "right": 0.0, "number": 1.0, "first_number": 0.0,
        }  # fmt: skip
        assert found.score(f"The answer is {right}.", sample) == {
            "right": 0.0, "number": 0.0, "first_number": 1.0,
        }  # fmt: skip
        assert found.score("none", sample)["first_number"] == 0.0


def test_a_table_that_is_damaged_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path, WORDS)
    path = tmp_path / "benchmark_english.csv"
    path.write_text(path.read_text("utf-8").replace("answer", "reply", 1), encoding="utf-8")
    with pytest.raises(LengthwiseError, match="no column 'answer'"):
        task_of("charbench", tmp_path, "count_unique_chars").samples(wanted())
    path.write_text('question,answer,word,task\n"a"b,c,d,e\n', encoding="utf-8")
    with pytest.raises(LengthwiseError, match="cannot be read"):
        task_of("charbench", tmp_path, "count_unique_chars").samples(wanted())
