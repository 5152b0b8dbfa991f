"""LLM-KICK of rows in its formats: facts, exams, pages, stories and turns."""

from __future__ import annotations

import json
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import NoRoom, tasks_of
from lengthwise.evaluation.tasks.published import kick
from lengthwise.evaluation.tasks.published._shared.files import Row, Source
from tests.evaluation.tasks.published.published_cases import task_of, wanted, write

FACT = {
    "RawQuestion": "Who made the first kite?",
    "Parses": [{"Answers": [{"AnswersName": ["lu ban", "gongshu ban"]}]}],
}
TRIVIA = {
    "question": "Which river runs through Aldby?",
    "answer": {"value": "The Orrest", "normalized_aliases": ["orrest", "river orrest"]},
    "entity_pages": {"filename": ["a"], "wiki_context": ["Aldby lies at the Orrest. ", "more"]},
    "search_results": {"filename": ["b"], "search_context": ["A page of the web. " * 9]},
}
STORY = {
    "question_id": 3, "category": "mid",
    "text": "Sum this up.\n\nA bridge fell. Nobody was hurt.@highlightBridge falls"
            "@highlightNo one is hurt",
}  # fmt: skip


def exam(folder: Path, split: str, subject: str, *lines: str) -> None:
    (folder / "data" / split).mkdir(parents=True, exist_ok=True)
    path = folder / "data" / split / f"{subject}_{split}.csv"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def test_facts_stand_in_the_reply(tmp_path: Path) -> None:
    file = tmp_path / "factoid_qa" / "datasets" / "freebase" / "FreebaseQA-train.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"Dataset": "a", "Version": "1", "Questions": [FACT]}))
    task = task_of("kick", tmp_path, "factoid")
    (sample,) = task.samples(wanted())
    assert sample.context == "" and not sample.chat and FACT["RawQuestion"] in sample.question
    assert task.score(" Lu Ban, they say", sample) == {"factoid": 1.0}
    assert task.score("kite", sample) == {"factoid": 0.0}


def test_exams_have_as_many_shots_of_their_subject_as_fit(tmp_path: Path) -> None:
    exam(tmp_path, "test", "tides", '"When, do they turn?",a,b,c,d,B')
    exam(tmp_path, "dev", "tides", *(f"shot {n}?,a,b,c,d,{'ABCD'[n % 4]}" for n in range(7)))
    exam(tmp_path, "dev", "winds", "other?,a,b,c,d,A")
    task = task_of("kick", tmp_path, "mmlu")
    (sample,) = task.samples(wanted())
    assert sample.context.count("Answer:") == 5 and "other?" not in sample.context
    assert sample.question == "When, do they turn?\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    assert sample.most == 1 and sample.facts == {"subject": "tides"}
    assert [task.score(said, sample)["last_letter"] for said in (" B", "B", " A", "")] == [
        1,
        1,
        0,
        0,
    ]
    (few,) = task.samples(wanted(250))
    assert few.context.count("Answer:") == 2 and few.own == sample.own == few.context[:50]
    with pytest.raises(NoRoom):
        task.samples(wanted(80))
    exam(tmp_path, "test", "tides", "no choices,B")
    with pytest.raises(
        LengthwiseError, match="line 1 of .*tides_test.csv is no question with four"
    ):
        task.samples(wanted())


def test_questions_with_pages_and_without(tmp_path: Path) -> None:
    write(tmp_path, "validation.jsonl", [TRIVIA])
    task = task_of("kick", tmp_path, "retrieval")
    (sample,) = task.samples(wanted())
    assert sample.context.startswith("Aldby lies at the Orrest. A page of the web.")
    assert task.score("The Orrest.\nQ: more", sample) == {"relaxed_em": 1.0, "trivia_f1": 1.0}
    assert task.score("", sample)["relaxed_em"] == 1.0
    (strict,) = tasks_of(f"kick(data={tmp_path}, compat=false, evidence=9)/retrieval")
    (short,) = strict.samples(wanted())
    assert short.context == "Aldby lie" and strict.score("", short)["relaxed_em"] == 0.0
    (closed,) = task_of("kick", tmp_path, "closed").samples(wanted())
    assert closed.context == "" and closed.references == ("orrest", "river orrest")


def test_stories_are_of_their_group(tmp_path: Path) -> None:
    write(tmp_path, "new_question.jsonl", [STORY, {**STORY, "category": "small"}])
    write(tmp_path, "gpt35_answer.jsonl", [{"question_id": 3, "text": "A bridge fell."}])
    task = task_of("kick", tmp_path, "summary_mid")
    (sample,) = task.samples(wanted())
    assert sample.context == "A bridge fell. Nobody was hurt."
    assert sample.references == ("Bridge falls. No one is hurt.",)
    assert "A bridge fell." not in sample.references and not sample.facts
    right = task.score("Bridge falls. No one is hurt.", sample)
    assert right["rouge_l"] == pytest.approx(1, abs=1e-6) and right["short"] == 1
    assert task.score("word " * 150, sample)["short"] == 0


def test_turns_stand_behind_published_replies_and_have_neither_score_nor_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = [
        {"question_id": 81, "category": "writing", "turns": ["Write a line.", "Make it rhyme."]},
        {"question_id": 82, "category": "generic", "text": "How do I sleep?"},
        {"question_id": 83, "category": "math", "turns": ["What is 2 + 2?", "And 3 more?"]},
    ]
    replies = [{"question_id": 81, "choices": [{"turns": ["A line.", "A line, all mine."]}]},
               {"question_id": 82, "text": "In the dark."}]  # fmt: skip
    write(tmp_path, "question.jsonl", asked)
    write(tmp_path, "answer.jsonl", replies)
    read, rows_of = [], kick.rows_of

    def counted(task: str, source: Source, data: str) -> Seq[Row]:
        read.append(source.files)
        return rows_of(task, source, data)

    monkeypatch.setattr(kick, "rows_of", counted)
    task = task_of("kick", tmp_path, "instructions")
    first, second, third, fourth = task.samples(wanted())
    assert (first.context, first.question) == ("", "Write a line.")
    assert second.context == "User: Write a line.\n\nAssistant: A line.\n\n"
    assert second.question == "Make it rhyme." and third.question == "How do I sleep?"
    assert fourth.question == "What is 2 + 2?"
    # A reply of another model is no right reply, which a judge would be shown as one.
    assert all(each.references == () for each in (first, second, third, fourth))
    assert task.score("anything", first) == {} and read == [("answer.jsonl",)]


def test_rows_of_another_form_are_said(tmp_path: Path) -> None:
    write(tmp_path, "FreebaseQA-eval.json", [{"RawQuestion": "?", "Parses": []}])
    with pytest.raises(LengthwiseError, match="kick/factoid: row 1 of its data is not as it is"):
        task_of("kick", tmp_path, "factoid").samples(wanted())
    with pytest.raises(LengthwiseError, match=r"kick\(data=FOLDER\) with test/\*_test.csv"):
        tasks_of(f"kick(data={tmp_path})/mmlu")
