"""Rows of tables."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.rows import RowScores, row_f1, row_scores

TABLE = "name\tyear\nThe Old Mill\t1801\nTown Hall\t1899"


def test_order_case_and_articles_do_not_count() -> None:
    said = "n\ty\ntown hall!\t1899\nold mill\t1801"
    assert row_scores(said, TABLE) == RowScores(1, 1, 1, True)


def test_a_block_is_found_and_what_follows_a_table_is_left_out() -> None:
    assert row_f1(f"Here:\n```tsv\n{TABLE}\n```\nDone.", [TABLE]) == 1
    assert row_f1(f"{TABLE}\nThat is all.", [TABLE]) == 1


def test_wrong_and_missing_rows_lower_both_shares() -> None:
    found = row_scores("name\tyear\nOld Mill\t1801\nBarn\t1700\nTower\t1650", TABLE)
    assert (found.precision, found.recall) == pytest.approx((1 / 3, 1 / 2))
    assert found.f1 == pytest.approx(0.4)


@pytest.mark.parametrize("said", ["", "no table", "name\nx", "name\tyear", '"' * 5])
def test_what_is_no_such_table_scores_zero(said: str) -> None:
    assert row_scores(said, TABLE) == RowScores(0, 0, 0, False)
