"""Questions with their evidence: read from a file, found in a document, refused by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lengthwise.documents.document import Document
from lengthwise.documents.folders import read
from lengthwise.errors import DocumentError
from lengthwise.evaluation.tasks.qa import QuestionAnswer, question_answers

GOOD: dict[str, Any] = {"question": "Who?", "answer": "Ada", "evidence": "Signed by Ada."}


def written(folder: Path, *records: object) -> Path:
    path = folder / "asked.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in records))
    return path


def test_a_file_gives_its_questions(tmp_path: Path) -> None:
    other = {"question": "When?", "answer": ["1871", "in 1871"], "id": 7, "kind": "year"}
    first, second = question_answers(written(tmp_path, GOOD, other))
    assert (first.question, first.answers, first.where) == ("Who?", ("Ada",), "asked.jsonl, line 1")
    assert first.located(Document("d", "It was. Signed by Ada. End")) == ((8, 22),)
    assert second.answers == ("1871", "in 1871") and not second.evidence and second.kind == "year"
    assert question_answers([GOOD]) == [
        QuestionAnswer("Who?", ("Ada",), first.evidence, "", "question 1")
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"answers": ["Ada"]}, "no field 'answers'; did you mean 'answer'?"),
        ({"question": " "}, '"question" must be a text'),
        ({"question": 3}, '"question" must be a text'),
        ({"answer": None}, '"answer" must be a text'),
        ({"answer": []}, '"answer" must be a text'),
        ({"answer": ["Ada", ""]}, '"answer" must be a text'),
        ({"evidence": {"start": 3}}, 'a piece of "evidence" is a text'),
        ({"evidence": {"start": 5, "stop": 5}}, 'a piece of "evidence" is a text'),
        ({"evidence": {"start": 0, "stop": True}}, 'a piece of "evidence" is a text'),
        ({"evidence": ["", "x"]}, 'a piece of "evidence" is a text'),
        ({"evidence": {"doc": "a", "start": 0, "stop": 5}}, 'a piece of "evidence" is a text'),
    ],
)
def test_wrong_fields_are_named_with_their_line(
    tmp_path: Path, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        question_answers(written(tmp_path, GOOD, GOOD | wrong))
    assert "asked.jsonl, line 2" in str(caught.value) and said in str(caught.value)


def test_an_empty_file_and_one_without_objects_are_refused(tmp_path: Path) -> None:
    for records, said in (((), "holds no question"), ((3,), "line 1 is no JSON object")):
        with pytest.raises(DocumentError, match=said):
            question_answers(written(tmp_path, *records))
    with pytest.raises(DocumentError, match="question 1 is a str"):
        question_answers(["Who?"])  # type: ignore[list-item]


def test_evidence_that_is_not_there_or_there_twice_is_refused() -> None:
    (asked,) = question_answers([GOOD])
    for text, count in (("Nobody signed.", "does not stand"), ("Signed by Ada. " * 2, "2 times")):
        with pytest.raises(DocumentError, match=count):
            asked.located(Document("deed", text))


def test_a_place_is_one_of_a_file_or_of_the_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\nFirst file.\n")
    (tmp_path / "b.txt").write_text("Signed by Ada.")
    both = read([tmp_path / "a.txt", tmp_path / "b.txt"])
    place = {"document": "b.txt", "start": 10, "stop": 13}
    (asked,) = question_answers([GOOD | {"evidence": place}])
    ((start, stop),) = asked.located(both)
    assert both.text[start:stop] == "Ada"
    (whole,) = question_answers([GOOD | {"evidence": {"start": start, "stop": stop}}])
    assert whole.located(both) == ((start, stop),)
    for wrong in (place | {"stop": 99}, place | {"document": "c.txt"}, {"start": 0, "stop": 999}):
        (asked,) = question_answers([GOOD | {"evidence": wrong}])
        with pytest.raises(DocumentError, match=r"its files: a\.txt, b\.txt"):
            asked.located(both)
