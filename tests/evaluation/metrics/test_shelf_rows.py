"""Rows of the shelf as JSON, and what they say of a budget."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.shelf_rows import ShelfRow, ShelfRows, read_rows, row_of
from tests.evaluation.shelf_runs import full_row, made_row


def test_a_row_is_read_as_it_was_written() -> None:
    row = made_row(needle_by_depth=[[0.1, 2.0]], notes=("so it is",), origin={"commit": "abc"})
    assert row_of(row.to_json()) == row
    assert set(json.loads(row.to_json())) == {each.name for each in fields(ShelfRow)}


def test_a_number_that_json_has_not_is_null_and_said() -> None:
    found = row_of(made_row(kl=math.inf, needle_by_depth=((0.1, math.nan),)).to_json())
    assert found.kl is None and "kl is not finite, written as null" in found.notes
    assert found.needle_by_depth == [[0.1, None]]


def test_a_budget_is_met_within_3_percent_of_it() -> None:
    assert not made_row(kv_bytes=257).off and made_row(kv_bytes=258).off
    assert not made_row(kv_bytes=243).off and made_row(kv_bytes=242).off
    assert not made_row(kv_bytes=None).off


def test_a_selection_is_judged_by_what_it_reads_and_not_by_what_it_holds() -> None:
    row = made_row(question="selection", kv_bytes=1001)
    assert row.spent is None and not row.off
    assert not replace(row, read=0.25).off and replace(row, read=0.3).off


def test_seconds_are_of_reading_and_writing() -> None:
    assert made_row().seconds == pytest.approx(1.5 + 10 / 20)
    assert made_row(tokens_per_s=None).seconds is None


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    place = tmp_path / "rows.jsonl"
    whole = made_row().to_json()
    place.write_text(f"{whole}\n{whole[:40]}")
    assert read_rows(place) == [made_row()]
    place.write_text(f"{whole[:40]}\n{whole}\n")
    with pytest.raises(LengthwiseError, match="line 1: this is no row"):
        read_rows(place)
    place.write_text(f'{{"engine": "x"}}\n{whole}\n')
    with pytest.raises(LengthwiseError, match="line 1"):
        read_rows(place)
    with pytest.raises(LengthwiseError, match="cannot be read"):
        read_rows(tmp_path / "nope")


def test_fields_of_a_later_version_are_left(tmp_path: Path) -> None:
    found = json.loads(made_row().to_json()) | {"later": 1}
    assert row_of(json.dumps(found)) == made_row()


def test_groups_are_by_question_and_share_the_best_first() -> None:
    rows = [full_row(), made_row("a", kl=0.3), made_row("b", kl=0.1), made_row("c", kl=None),
            made_row("d", share=0.5), made_row("e", question="codecs")]  # fmt: skip
    found = ShelfRows(rows).groups()
    assert list(found) == [("retention", 0.5), ("retention", 0.25), ("codecs", 0.25)]
    assert [row.recipe for row in found["retention", 0.25]] == ["b", "a", "c"]
    assert ShelfRows(rows).full == full_row() and ShelfRows(()).full is None
