"""LongBench v2 of rows in its format: domains, options and stated letters."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
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
