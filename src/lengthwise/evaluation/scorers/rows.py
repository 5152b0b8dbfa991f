"""Rows of tables: LongProc's HTML to TSV (Ye and others, 2025, arXiv:2501.05414)."""

from __future__ import annotations

import csv
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from lengthwise.evaluation.scorers.matching import plain_words
from lengthwise.evaluation.scorers.replies import code_block

_LOST = "N/A"


@dataclass(frozen=True, slots=True)
class RowScores:
    """Shares from 0 to 1. extracted: whether there was a table with the right columns."""

    precision: float
    recall: float
    f1: float
    extracted: bool


def row_scores(reply: str, reference: str) -> RowScores:
    """Rows of a table that are right, in any order: LongProc (arXiv:2501.05414).

    The table is a block of tsv, or else the whole reply. Its first line names the columns. A last
    line of another width is left out; any other one matches no ordinary row. Cells lose case,
    punctuation, articles and all spaces. Tables of other widths score 0.

    Args:
        reply: by a model.
        reference: the right table, with tabs between cells.

    Returns:
        Precision, recall and F1 of rows.
    """
    said, right = _table(_tsv(reply)), _table(reference)
    if not said or not right or len(said[0]) != len(right[0]):
        return RowScores(0.0, 0.0, 0.0, False)
    known, given = set(right), set(said)
    precision = sum(row in known for row in said) / len(said)
    recall = sum(row in given for row in right) / len(right)
    total = precision + recall
    return RowScores(precision, recall, 2 * precision * recall / total if total else 0.0, True)


def row_f1(reply: str, references: Seq[str]) -> float:
    """F1 of rows, as `row_scores` has it: LongProc (arXiv:2501.05414).

    Args:
        reply: by a model.
        references: right tables; the best counts.

    Returns:
        0 to 1.
    """
    return max(row_scores(reply, each).f1 for each in references)


def _tsv(reply: str) -> str:
    found = code_block(reply, "tsv")
    if found is None:
        _, fence, behind = reply.partition("```tsv")
        return behind.split("```tsv")[0] if fence else reply
    return found


def _table(text: str) -> list[tuple[str, ...]]:
    try:
        header, *rows = csv.reader(text.strip().split("\n"), delimiter="\t")
    except (csv.Error, ValueError):
        return []
    width = len(header)
    if rows and len(rows[-1]) != width:
        rows.pop()
    return [_cells(row if len(row) == width else [_LOST] * width) for row in rows]


def _cells(row: Seq[str]) -> tuple[str, ...]:
    return tuple("".join(plain_words(cell)) for cell in row)


__all__ = ["RowScores", "row_f1", "row_scores"]
