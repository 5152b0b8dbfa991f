"""Questions with known evidence: how much of it is read, and how answers are scored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lengthwise
from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.compare.comparison import compare
from lengthwise.testing.tiny import tiny_model
from tests.tiny_tokenizers import byte_level

LINES = [f"Line {n} of the log says {n * n % 97}, and all is well." for n in range(60)]
TEXT = " ".join(LINES)
ITEMS: list[dict[str, Any]] = [
    {"question": "What does line 7 of the log say?", "answer": "49", "evidence": LINES[7]},
    {"question": "And line 9?", "answer": ["81", "it says 81"]},
]
RECIPES = ["bm25(budget=300, passage=60)", "kivi(bits=4, residual=32)"]


@pytest.fixture(scope="module")
def model() -> Iterator[lengthwise.Model]:
    tiny = tiny_model("llama", vocab_size=512, max_position_embeddings=4096)
    with lengthwise.wrap(tiny, byte_level()) as model:
        yield model


def test_evidence_that_is_read_and_answers_are_scored(model: lengthwise.Model) -> None:
    rows = compare(model, TEXT, (), RECIPES, qa=ITEMS, probes=False, max_new_tokens=4)
    by = {(row.recipe, row.question): row for row in rows}
    chosen, full, kivi = (by[name, ITEMS[0]["question"]] for name in (RECIPES[0], "full",
                                                                     RECIPES[1]))  # fmt: skip
    assert chosen.evidence_recall == 1 == full.evidence_recall == kivi.evidence_recall
    assert full.evidence_precision == pytest.approx(len(LINES[7]) / len(TEXT))
    assert chosen.evidence_precision == pytest.approx(len(LINES[7]) / 300, rel=0.3)
    assert chosen.evidence_omega is not None and full.evidence_omega is None
    assert chosen.exact_match == 0 and chosen.token_f1 is not None
    other = by[RECIPES[0], ITEMS[1]["question"]]
    assert other.evidence_recall is None and other.exact_match == 0 and other.expected == "81"
    (_, merged, _) = rows.at_length(rows[0].length)
    assert merged.evidence_recall == 1 and isinstance(merged.tokens_read, int)


def test_a_right_answer_is_an_exact_match(model: lengthwise.Model) -> None:
    (row,) = compare(model, TEXT, (), qa=ITEMS[:1], probes=False, max_new_tokens=4)
    # Of several right answers the best one counts; a random model says no words.
    assert str(row.answer).strip()
    right = [ITEMS[0] | {"answer": ["forty-nine", row.answer]}]
    (again,) = compare(model, TEXT, (), qa=right, probes=False, max_new_tokens=4)
    assert again.exact_match == 1 == again.token_f1


def test_a_file_names_evidence_by_document(model: lengthwise.Model, tmp_path: Path) -> None:
    for name, lines in (("a.txt", LINES[:20]), ("b.txt", LINES[20:])):
        (tmp_path / name).write_text(" ".join(lines))
    start = " ".join(LINES[20:]).index(LINES[30])
    place = {"document": "b.txt", "start": start, "stop": start + len(LINES[30])}
    asked = tmp_path / "asked.jsonl"
    asked.write_text(json.dumps({"question": "Line 30?", "answer": "27", "evidence": place}))
    both = lengthwise.read([tmp_path / "a.txt", tmp_path / "b.txt"])
    rows = compare(model, both, (), RECIPES[0], qa=asked, probes=False, max_new_tokens=2)
    assert rows[-1].evidence_recall == 1
    found = lengthwise.answer(model, both, "What does line 30 say?", RECIPES[0], max_new_tokens=2)
    hit = next(each for each in found.sources if LINES[30] in each.text)
    text = " ".join(LINES[20:])
    assert hit.name == "b.txt" and text[hit.start : hit.stop] == hit.text


def test_planted_questions_are_asked_of_what_they_stand_in(model: lengthwise.Model) -> None:
    text = "\n".join(f"{line} It was a day like any other, and nobody came by." for line in LINES)
    rows = compare(model, text, (), RECIPES[0], plant=4, probes=False, max_new_tokens=2)
    assert len(rows) == 8 and rows[0].length > len(text)
    assert all(row.evidence_recall == 1 for row in rows if row.recipe == "full")
    key = next(row for row in rows if "pass key" in str(row.question) and row.recipe == RECIPES[0])
    assert key.evidence_recall == 1
    (short, *_) = compare(model, text, (), "full", 1500, plant=4, probes=False, max_new_tokens=2)
    assert 1500 < short.length < 2000


def test_evidence_behind_the_length_has_no_figures(model: lengthwise.Model) -> None:
    rows = compare(
        model, TEXT, (), RECIPES[0], [200, len(TEXT)], qa=ITEMS[:1], probes=False, max_new_tokens=2
    )
    cut, whole = rows[0], rows[-1]
    assert cut.evidence_recall is None and whole.evidence_recall == 1
    assert "the evidence of 1 of 1 questions stands behind this length" in cut.notes[0]


def test_what_does_not_go_together_is_refused(model: lengthwise.Model) -> None:
    for given, said in (
        ({"qa": ITEMS, "plant": 3}, "choose one"),
        ({"qa": ITEMS, "questions": "Who?"}, "is asked beside a set"),
        ({"plant": 3, "lengths": [200, 300]}, "give one --length"),
        ({"plant": -1}, "plant"),
        ({"plant": 3, "lengths": [10**6]}, "is more than the"),
        ({"qa": [*ITEMS, ITEMS[0]]}, "asked twice"),
        ({"qa": [ITEMS[0] | {"evidence": "Nowhere."}]}, "does not stand in"),
        ({"qa": "/nowhere.jsonl"}, "cannot read"),
    ):
        with pytest.raises((LengthwiseError, DocumentError), match=said):
            compare(model, TEXT, **given)  # type: ignore[arg-type]
