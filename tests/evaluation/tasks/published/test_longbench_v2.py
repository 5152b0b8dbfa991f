"""LongBench v2 of rows in its format: domains, options and stated letters."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.published._shared import files
from lengthwise.evaluation.tasks.published.longbench_v2 import DOMAINS
from tests.evaluation.tasks.published.published_cases import task_of, wanted, write


def rows() -> list[dict[str, str]]:
    return [
        {
            "_id": str(n), "domain": domain, "sub_domain": "Tales", "difficulty": "easy",
            "length": "short", "question": "Who rings the {options} bell?", "choice_A": "Tom",
            "choice_B": "Ida", "choice_C": "Mara", "choice_D": "Joe", "answer": "A",
            "context": f"Tom rings the bell of {domain}.",
        }
        for n, domain in enumerate(DOMAINS.values())
    ]  # fmt: skip


@pytest.mark.parametrize("task", list(DOMAINS))
def test_a_task_is_a_domain(task: str, tmp_path: Path) -> None:
    write(tmp_path, "data.json", rows())
    found = task_of("longbench_v2", tmp_path, task)
    (sample,) = found.samples(wanted())
    assert DOMAINS[task] in sample.context and sample.references == ("A",)
    assert found.score("The correct answer is (A)", sample) == {"letter": 1.0}
    assert found.score("The correct answer is **A**.", sample) == {"letter": 1.0}
    assert found.score("The correct answer is (B)", sample) == {"letter": 0.0}
    assert found.score("A", sample) == {"letter": 0.0}


def test_a_prompt_to_the_letter(tmp_path: Path) -> None:
    write(tmp_path, "data.json", rows())
    (sample,) = task_of("longbench_v2", tmp_path, "long_dialogue").samples(wanted())
    assert sample.question == (
        "Choose the right answer to this question about the text above.\n\n"
        "Who rings the {options} bell?\n\n(A) Tom\n(B) Ida\n(C) Mara\n(D) Joe\n\n"
        'Reply in the form "The correct answer is (letter)".'
    )


def test_a_domain_without_rows(tmp_path: Path) -> None:
    write(tmp_path, "data.json", rows()[:1])
    with pytest.raises(LengthwiseError, match="longbench_v2/code_repository: no row"):
        task_of("longbench_v2", tmp_path, "code_repository").samples(wanted())


@pytest.mark.parametrize("said, letter", [
    ("The correct answer is A? No. The correct answer is (B)", "B"),
    ("The correct answer is (A", ""), ("The correct answer is A. Then: correct answer is (B)", "A"),
    ("The correct answer is **(C)**.", "C"), ("The correct answer is Damp", "D"),
    ("the correct answer is (A)", ""),
])  # fmt: skip
def test_the_letter_in_brackets_goes_before_the_one_without(
    said: str, letter: str, tmp_path: Path
) -> None:
    write(tmp_path, "data.json", rows())
    task = task_of("longbench_v2", tmp_path, "long_dialogue")
    (sample,) = task.samples(wanted())
    for each in "ABCD":
        given = replace(sample, references=(each,))
        assert task.score(said, given) == {"letter": float(each == letter)}


def test_the_file_of_all_domains_is_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed, real = list[str](), files._parsed
    monkeypatch.setattr(files, "_parsed", lambda *given: parsed.append(given[1]) or real(*given))
    write(tmp_path, "data.json", rows())
    for _ in range(2):
        for name in DOMAINS:
            task_of("longbench_v2", tmp_path, name).samples(wanted())
    assert parsed == [".json"]
    # A file that changed is another one.
    write(tmp_path, "data.json", rows() * 2)
    os.utime(tmp_path / "data.json", (1, 1))
    assert len(task_of("longbench_v2", tmp_path, name).samples(wanted())) == 2
    assert len(parsed) == 2
