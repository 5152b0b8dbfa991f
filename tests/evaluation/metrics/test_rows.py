"""Rows turn into JSON and a DataFrame without losing a field, and merge over questions."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest

from lengthwise.evaluation.compare.results import Comparison
from lengthwise.evaluation.metrics.row import CompareRow
from tests.evaluation.measured_rows import FULL, REFUSED, ROWS, SMALL, row

_FIELD_NAMES = (
    "recipe model dtype device length question answer agreement kl copy_loss needle_loss "
    "loss_by_position ttft_s tokens_per_s kv_bytes kv_peak_bytes accepted_per_step lossless refused"
)
FIELDS = _FIELD_NAMES.split()
LATER = ["needle_by_depth", "notes", "accepted", "draft_s", "verify_s"]
LATER += [
    "prompt_tokens", "max_new_tokens", "answer_tokens", "fidelity_tokens", "fidelity_length",
    "agreement_interval", "kl_error", "loss_bins", "reads_as_full", "same_text", "expected",
    "expected_found", "expected_loss", "kv_offloaded_bytes", "tokens_read",
    "exact_match", "token_f1", "evidence_recall", "evidence_precision", "evidence_iou",
    "evidence_omega", "text_bytes", "text_words",
]  # fmt: skip


def test_json_is_one_line_a_row_with_the_documented_fields() -> None:
    lines = ROWS.to_json().splitlines()
    assert len(lines) == len(ROWS)
    for line in lines:
        assert list(json.loads(line)) == [*FIELDS, *LATER]
    assert json.loads(lines[4])["refused"] == REFUSED.refused


def test_json_has_no_nan_and_says_what_was_one() -> None:
    strange = row("full", kl=math.inf, loss_by_position=[(1, math.nan)])
    values = json.loads(strange.to_json(), parse_constant=pytest.fail)
    assert values["kl"] is None
    assert values["loss_by_position"] == [[1, None]]
    assert "kl is inf" in values["notes"][0]


def test_a_band_that_is_no_number_is_written_as_null() -> None:
    bins = [{"start": 0, "stop": 9, "n": 9, "mean": math.inf, "error": None}]
    values = json.loads(row("full", loss_bins=bins).to_json(), parse_constant=pytest.fail)
    assert values["loss_bins"] == [bins[0] | {"mean": None}]


def test_every_field_is_documented() -> None:
    for field in fields(CompareRow):
        assert f"\n    {field.name}: " in (CompareRow.__doc__ or ""), field.name


def test_dataframe_has_a_column_per_field() -> None:
    pytest.importorskip("pandas")
    frame = ROWS.to_dataframe()
    assert list(frame["recipe"]) == [r.recipe for r in ROWS]
    assert list(frame.columns) == [*FIELDS, *LATER]
    assert list(Comparison().to_dataframe().columns) == list(frame.columns)


def test_rows_are_a_sequence_that_keeps_its_context() -> None:
    assert ROWS[1] is SMALL
    assert ROWS[:2].document == ROWS.document
    assert ROWS[:2].rows == [FULL, SMALL]
    assert not Comparison()


def test_questions_of_one_recipe_are_averaged_for_the_pick() -> None:
    rows = Comparison([row("full", question=q, ttft_s=t) for q, t in (("a", 1.0), ("b", 3.0))])
    (merged,) = rows.at_length(8192)
    assert merged.ttft_s == 2.0
    assert merged.question is None and merged.answer is None
