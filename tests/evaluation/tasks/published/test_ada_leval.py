"""Ada-LEval of rows in its format: designations, orders, and what is too long."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import tasks_of
from tests.evaluation.tasks.published.published_cases import task_of, wanted, write

BEST = {
    "question_id": 7, "question": "How do I open a jar?", "tags": ["kitchen"], "answer": "A12",
    "all_answers": [f"Way number {n}." for n in range(1, 14)],
}  # fmt: skip
SORT = {
    "book_id": 3, "para_offset": 9, "answer": [2, 1, 4, 3],
    "prompt": "Sort four pieces.\n\n[1]: night\n\n[2]: dawn\n\nGive the order as a list.",
}  # fmt: skip


def test_the_best_answer_is_named_by_its_designation(tmp_path: Path) -> None:
    write(tmp_path, "data/stackselect_1k.json", [BEST])
    task = task_of("ada_leval", tmp_path, "best_1k")
    (sample,) = task.samples(wanted())
    assert sample.context.startswith("Question:\n\nHow do I open a jar?\n\nA1:\n\nWay number 1.")
    assert sample.context.endswith("A13:\n\nWay number 13.")
    assert task.score("A12", sample) == {"best_answer": 1.0}
    assert task.score("A1", sample) == {"best_answer": 0.0}
    assert task.score("A13 or A12", sample) == {"best_answer": 0.0}


def test_an_order_is_right_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path, "textsort_2k.json", [SORT])
    task = task_of("ada_leval", tmp_path, "sort_2k")
    (sample,) = task.samples(wanted())
    assert sample.context == "Sort four pieces.\n\n[1]: night\n\n[2]: dawn"
    assert sample.question == "Give the order as a list." and sample.references == ("[2, 1, 4, 3]",)
    assert task.score("Answer: [2, 1, 4, 3]", sample) == {"permutation": 1.0}
    assert task.score("Answer: [1, 2, 3, 4]", sample) == {"permutation": 0.0}
    # The released code takes an empty list for right.
    assert task.score("[]", sample) == {"permutation": 1.0}
    (strict,) = tasks_of(f"ada_leval(data={tmp_path}, compat=false)/sort_2k")
    assert strict.score("[]", sample) == {"permutation": 0.0}


def test_what_is_too_long_is_never_cut(tmp_path: Path) -> None:
    write(tmp_path, "stackselect_1k.json", [BEST])
    with pytest.raises(LengthwiseError, match=r"sample 1 of ada_leval/best_1k is longer than 300 "):
        task_of("ada_leval", tmp_path, "best_1k").samples(wanted(300))


def test_there_is_no_hub_to_load_from() -> None:
    with pytest.raises(LengthwiseError, match=r"ada_leval\(data=FOLDER\) with textsort_8k.json"):
        tasks_of("ada_leval/sort_8k")
    with pytest.raises(LengthwiseError, match="and 16 more tasks of it likewise"):
        tasks_of("ada_leval")
