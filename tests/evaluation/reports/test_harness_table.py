"""What stands below the harness's table: its marks are p alone, of many comparisons."""

from __future__ import annotations

import io

from lengthwise.evaluation.reports.harness_table import show_scores


def test_many_comparisons_are_said_not_to_be_corrected_for() -> None:
    out = io.StringIO()
    show_scores([], ["full"], {}, out)
    assert "bold below 5% (no correction for many comparisons)" in " ".join(out.getvalue().split())
