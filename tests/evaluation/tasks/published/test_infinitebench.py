"""InfiniteBench of rows in its format: options, right replies, room for long ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.published.infinitebench import InfiniteBench
from tests.evaluation.tasks.published.published_cases import task_of, wanted, write

ANSWERS = {
    "passkey": "71432", "number_string": "0011223344", "kv_retrieval": "a1-b2", "code_run": 12,
    "longbook_choice_eng": "Mara", "code_debug": "sort_all", "longdialogue_qa_eng": ["MARA"],
    "math_find": 7, "math_calc": [3, 5, 4], "longbook_qa_chn": "一只白猫",
}  # fmt: skip
REPLIES = {
    "longbook_choice_eng": "B", "code_debug": "B. sort_all", "math_calc": "[3, 5, 4]",
    "longdialogue_qa_eng": "Mara.",
}  # fmt: skip


def row(task: str, context: str = "1 + 2 + 2 - 1") -> dict[str, object]:
    options = {
        "longbook_choice_eng": ["Tom", "Mara", "Ida", "Joe"],
        "code_debug": ["load", "sort_all", "save", "quit"],
    }
    answer = ANSWERS.get(task, "She keeps a light.")
    answer = answer if isinstance(answer, list) or task == "math_find" else [answer]
    return {
        "id": 1, "context": context, "input": "Who keeps the light?", "answer": answer,
        "options": options.get(task, []),
    }  # fmt: skip


@pytest.mark.parametrize("task", list(InfiniteBench.tasks))
def test_a_right_reply_scores_one_and_a_wrong_one_does_not(task: str, tmp_path: Path) -> None:
    write(tmp_path, f"{task}.jsonl", [row(task)])
    found = task_of("infinitebench", tmp_path, task)
    (sample,) = found.samples(wanted())
    said = REPLIES.get(task, sample.references[0])
    assert next(iter(found.score(said, sample).values())) == 1.0
    assert next(iter(found.score("zzz", sample).values())) == 0.0


def test_options_stand_in_the_question(tmp_path: Path) -> None:
    write(tmp_path, "longbook_choice_eng.jsonl", [row("longbook_choice_eng")])
    (sample,) = task_of("infinitebench", tmp_path, "longbook_choice_eng").samples(wanted())
    assert sample.question == (
        "Answer from the book above.\n\nQuestion: Who keeps the light?\n\nA. Tom\nB. Mara\nC. Ida\n"
        "D. Joe\n\nReply with the letter of the right option alone."
    )
    assert sample.references == ("B", "Mara") and sample.most == 40


def test_long_replies_take_at_most_half(tmp_path: Path) -> None:
    write(tmp_path, "math_calc.jsonl", [row("math_calc", "1 + " * 2000 + "1")])
    task = task_of("infinitebench", tmp_path, "math_calc")
    (sample,) = task.samples(wanted(4000))
    assert sample.most == 2000 and wanted(4000).fits(sample) and sample.facts["cut_tokens"] > 0
    (sample,) = task.samples(wanted(100_000))
    assert sample.most == 30_000 and "cut_tokens" not in sample.facts


def test_an_answer_that_is_no_option(tmp_path: Path) -> None:
    write(tmp_path, "code_debug.jsonl", [{**row("code_debug"), "answer": ["other"]}])
    with pytest.raises(LengthwiseError, match="'other' is none of the options load, sort_all"):
        task_of("infinitebench", tmp_path, "code_debug").samples(wanted())
