"""Giraffe's evaluation tasks: lines, free-form questions, and the same with numbers altered."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.tasks.document_qa import (
    DocumentQuestion,
    altered,
    altered_prompt,
    number_questions,
    placed,
    read_conversations,
)
from lengthwise.evaluation.tasks.lines import fitted_case, line_case, read_line_cases


def words(text: str) -> int:
    return len(text.split())


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 300), st.integers(0, 10**6))
def test_a_case_holds_its_answer_in_the_line_asked_for_and_no_name_twice(
    lines: int, seed: int
) -> None:
    case = line_case(lines, seed)
    record = re.findall(r"^line (\S+): REGISTER_CONTENT is <(\d+)>$", case.prompt, re.M)
    assert len(record) == len(dict(record)) == lines == case.lines
    asked = re.search(r"in line (\S+)\?", case.prompt)
    assert asked is not None and dict(record)[asked[1]] == str(case.expected)
    assert case.place is not None and 0 <= case.place <= 1
    assert line_case(lines, seed) == case
    assert case.right(f"It is {case.expected}.") and not case.right(f"{case.expected}0")
    assert not case.right("none") and not case.right(f"7 or {case.expected}" if case.expected != 7
                                                     else "8")  # fmt: skip


@pytest.mark.parametrize("length", [60, 500, 4000])
def test_a_fitted_case_is_the_longest_that_fits(length: int) -> None:
    case = fitted_case(length, words, seed=3)
    assert words(case.prompt) <= length < words(line_case(case.lines + 1, 3).prompt)


def test_lengths_and_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(LengthwiseError, match="give more"):
        fitted_case(20, words)
    for lines in (0, 10**9):
        with pytest.raises(LengthwiseError, match="allowed are 1 to"):
            line_case(lines)


def test_published_cases_are_read(tmp_path: Path) -> None:
    own = [line_case(4, seed) for seed in range(3)]
    place = tmp_path / "5.jsonl"
    records = [{"prompt": c.prompt, "expected_number": c.expected, "num_lines": 4} for c in own]
    place.write_text("\n".join(json.dumps(record) for record in records) + "\n")
    assert [(c.prompt, c.expected, c.lines) for c in read_line_cases(place)] == [
        (c.prompt, c.expected, c.lines) for c in own
    ]
    place.write_text(json.dumps(records))
    assert len(read_line_cases(place)) == 3
    place.write_text(json.dumps(records[0]) + '\n{"prompt": "x"}\n')
    with pytest.raises(DocumentError, match="line 2: a case has `prompt`"):
        read_line_cases(place)
    place.write_text('{"prompt"\n')
    with pytest.raises(DocumentError, match="line 1 is no JSON"):
        read_line_cases(place)
    with pytest.raises(DocumentError, match="cannot read"):
        read_line_cases(tmp_path / "none.jsonl")


BRIDGE = (
    "The bridge was opened in 1873, and 1,240 people crossed it on that day.\n"
    "By 1873 the ferry had gone. Of 1240 tickets, 12 were false; a ticket cost 12.50 crowns.\n"
    "In 1874 the toll was 18731 crowns a year."
)


@pytest.mark.parametrize("seed", range(20))
def test_a_year_moves_by_ten_at_most_and_everywhere(seed: int) -> None:
    case = altered(DocumentQuestion(BRIDGE, "When, if not 1873, was it opened?", "1873"), seed)
    new = int(case.answer)
    assert new not in (1873, 1874) and abs(new - 1873) <= 10
    assert case.document.count(case.answer) == 2 and case.answer in case.question
    # What only looks alike is left.
    assert "18731 crowns" in case.document and "In 1874" in case.document
    assert case.right(f"in {new}") and not case.right("in 1873")


@pytest.mark.parametrize("seed", range(20))
def test_other_numbers_keep_their_digits_and_commas(seed: int) -> None:
    case = altered(DocumentQuestion(BRIDGE, "How many tickets?", "1,240"), seed)
    digits = case.answer.replace(",", "")
    # 1240 with a comma is a year by its value, so it stays near.
    assert len(digits) == 4 and digits != "1240" and abs(int(digits) - 1240) <= 10
    assert f"{int(digits):,} people" in case.document and f"Of {digits} tickets" in case.document
    case = altered(DocumentQuestion(BRIDGE, "How many were false?", "12"), seed)
    assert re.fullmatch(r"\d\d", case.answer) and case.answer != "12"
    assert f"{case.answer} were false" in case.document and "12.50 crowns" in case.document


def test_what_cannot_be_altered_is_refused() -> None:
    with pytest.raises(LengthwiseError, match="no whole number"):
        altered(DocumentQuestion(BRIDGE, "", "the ferry"))
    with pytest.raises(LengthwiseError, match="does not hold its answer"):
        altered(DocumentQuestion(BRIDGE, "", "187"))
    digits = " ".join("0123456789")
    with pytest.raises(LengthwiseError, match="every number of 1 digits"):
        altered(DocumentQuestion(digits, "", "7"))


def test_published_conversations_are_read_and_altered(tmp_path: Path) -> None:
    record = {"conversations": [
        {"from": "human", "value": f"{BRIDGE}\n\nWhen was it opened?", "tok_len": 60},
        {"from": "gpt", "value": " 1873 "},
    ]}  # fmt: skip
    place = tmp_path / "ffqa_2k.json"
    place.write_text(json.dumps([record, record]))
    found = read_conversations(place)
    assert found == [(f"{BRIDGE}\n\nWhen was it opened?", "1873")] * 2
    prompt, answer = altered_prompt(*found[0], seed=1)
    assert "1873," not in prompt and prompt.count(answer) == 2
    place.write_text(json.dumps({"conversations": [{"value": "x"}]}))
    with pytest.raises(DocumentError, match="record 1: `conversations` holds two turns"):
        read_conversations(place)


@pytest.mark.parametrize(("where", "low", "high"), [("start", 0, 0.1), ("bulk", 0.1, 0.9),
                                                    ("end", 0.9, 1)])  # fmt: skip
def test_a_document_is_cut_so_that_the_answer_stands_where_asked(
    where: str, low: float, high: float
) -> None:
    lines = [f"Line {i} says nothing that anybody would ask for." for i in range(400)]
    lines[200] = "The keeper of the lamp was called Orlo."
    case = placed(DocumentQuestion("\n".join(lines), "Who?", "Orlo"), where, 1000, words)
    assert 800 <= words(case.document) <= 1000
    depth = words(case.document[: case.document.index("The keeper")]) / words(case.document)
    assert low <= depth <= high
    with pytest.raises(LengthwiseError, match="too little text"):
        placed(DocumentQuestion("\n".join(lines), "Who?", "Orlo"), where, 10_000, words)
    with pytest.raises(LengthwiseError, match="allowed are start, bulk, end"):
        placed(case, "middle", 1000, words)


def test_questions_are_made_of_numbers_a_document_states_once() -> None:
    text = "\n".join(f"The ship number {i * 37 + 100} left the harbour with all of its crew on "
                     f"board and nobody saw it again." for i in range(40))  # fmt: skip
    cases = number_questions(text + " The 7 keepers saw the 7 ships.", 5, seed=2)
    assert len({case.answer for case in cases}) == 5
    for case in cases:
        assert case.answer in case.document and case.answer not in case.question
        assert text.count(case.answer) == 1 and case.right(f"It is {case.answer}.")
        assert altered(case).answer != case.answer
    with pytest.raises(DocumentError, match="and 50 are asked for"):
        number_questions(text, 50)
