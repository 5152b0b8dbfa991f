"""A sample in words: two that differ in their depth alone are told apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lengthwise.evaluation.reports.sample_text import sample_text
from lengthwise.evaluation.runs.evaluate import evaluate
from lengthwise.testing.prompting import letters


@pytest.mark.parametrize("task, said", [("ruler/vt", "asked at 10%"), ("passkey", "answer at 12%")])
def test_samples_of_two_depths_are_told_apart(task: str, said: str) -> None:
    rows = evaluate(letters(), task, lengths=[2000], depths=[0.1, 0.9], samples=1).rows
    heads = [sample_text(row).splitlines()[0] for row in rows]
    assert heads[0] != heads[1] and said in heads[0]


def test_without_a_depth_none_is_told() -> None:
    (row,) = evaluate(letters(), "ruler/vt", lengths=[2000], samples=1).rows
    assert "asked at" not in sample_text(row)


@pytest.mark.parametrize("wanted", [(), ("a", "b")])
def test_what_was_wanted_is_told_where_it_is_known(wanted: tuple[str, ...]) -> None:
    (row,) = evaluate(letters(), "ruler/vt", lengths=[2000], samples=1).rows
    lines = sample_text(replace(row, references=wanted)).splitlines()
    assert [line for line in lines if "wanted" in line] == (["  wanted   a | b"] if wanted else [])
