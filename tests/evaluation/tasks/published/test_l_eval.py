"""L-Eval of rows in its format: a sample a question, and the exam rules of each set."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import tasks_of
from lengthwise.evaluation.tasks.published.l_eval import LEval
from tests.evaluation.tasks.published.published_cases import task_of, wanted, write

OUTPUTS = {
    "coursera": "BD", "quality": "C", "tpo": "B", "gsm100": "The answer is 42", "codeU": "[3, 1]",
    "sci_fi": "True [fact: False]", "topic_retrieval_longchat": "the care of bees",
}  # fmt: skip


def row(task: str) -> dict[str, object]:
    answer = OUTPUTS.get(task, "The keeper counted nine boats.")
    return {
        "instructions": ["What did she count?", "And then?"], "outputs": [answer, answer],
        "input": "The keeper counted nine boats.", "source": "ours", "evaluation": "exam",
    }  # fmt: skip


@pytest.mark.parametrize("task", list(LEval.tasks))
def test_a_right_reply_scores_one_and_a_wrong_one_does_not(task: str, tmp_path: Path) -> None:
    write(tmp_path, f"LEval-data/Exam/{task}.jsonl", [row(task)])
    found = task_of("l_eval", tmp_path, task)
    samples = found.samples(wanted())
    assert len(samples) == 2 and samples[0].context == samples[1].context
    for sample in samples:
        assert next(iter(found.score(sample.references[0], sample).values())) == 1.0
        assert next(iter(found.score("zebra", sample).values())) == 0.0


def test_a_prompt_to_the_letter(tmp_path: Path) -> None:
    write(tmp_path, "news_summ.jsonl", [row("news_summ")])
    sample, _ = task_of("l_eval", tmp_path, "news_summ").samples(wanted())
    asked = "What did she count?\n\nAnswer from the document above."
    assert sample.question == f"{asked} Use about 5 words." and sample.most == 512
    (task,) = tasks_of(f"l_eval(data={tmp_path}, words=false)/news_summ")
    assert task.samples(wanted())[0].question == asked


def test_some_letters_are_a_quarter_and_none_is_a_in_the_released_code(tmp_path: Path) -> None:
    write(tmp_path, "coursera.jsonl", [row("coursera")])
    task = task_of("l_eval", tmp_path, "coursera")
    sample, _ = task.samples(wanted())
    assert task.score("B", sample) == {"exam_letters": 0.25}
    assert task.score("BC", sample) == {"exam_letters": 0.0}


def test_rows_with_questions_that_have_no_answer(tmp_path: Path) -> None:
    write(tmp_path, "tpo.jsonl", [{**row("tpo"), "outputs": ["B"]}])
    with pytest.raises(LengthwiseError, match="2 instructions and 1 outputs"):
        task_of("l_eval", tmp_path, "tpo").samples(wanted())
