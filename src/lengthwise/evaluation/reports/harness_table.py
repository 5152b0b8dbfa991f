"""Scores of the harness's tasks for a terminal: a row a task and metric, a column a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lengthwise._utils.plural import many
from lengthwise.evaluation.harness.scores import Cell, ScoreRow
from lengthwise.evaluation.reports.table import PIPE_WIDTH

# p below which a difference is shown as one.
SURE = 0.05
LEGEND = (
    "In brackets a 95% interval. Below: the difference to full, and p of a test by signs on the "
    "same samples; bold below 5% (no correction for many comparisons). ↑ more is better, ↓ less is."
)


def show_scores(
    rows: list[ScoreRow], recipes: list[str], cut: Mapping[str, int], file: IO[str] | None = None
) -> None:
    """Prints the table: to the terminal at its own width, to a file or pipe at 100 columns.

    Args:
        rows: what `score_rows` gave.
        recipes: in the order of their columns.
        cut: samples of a task that are longer than the model.
        file: None is standard output.
    """
    console = Console(markup=False, file=file)
    if not console.is_terminal:
        console = Console(markup=False, file=file, width=PIPE_WIDTH, color_system=None)
    console.print(scores_table(rows, recipes, cut))


def scores_table(
    rows: list[ScoreRow], recipes: list[str], cut: Mapping[str, int]
) -> RenderableType:
    """See `show_scores`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("task", "metric"):
        table.add_column(name, overflow="fold")
    table.add_column("n", justify="right")
    for recipe in recipes:
        table.add_column(recipe, justify="right", overflow="fold")
    before = None
    for row in rows:
        arrow = {True: " ↑", False: " ↓", None: ""}[row.higher]
        cells = [_cell(row.cells.get(recipe)) for recipe in recipes]
        task = "" if row.task == before else row.task
        table.add_row(task, row.metric + arrow, f"{row.n:,}", *cells)
        before = row.task
    parts: list[RenderableType] = [table, Text(LEGEND, style="dim")]
    parts += [
        Text(
            f"{task}: {many(count, 'sample')} longer than the model; of such prompts the beginning "
            "is left out",
            style="dim",
        )
        for task, count in cut.items()
    ]
    return Group(*parts)


def _cell(cell: Cell | None) -> Text:
    if cell is None:
        return Text("-", style="dim")
    said = Text(number(cell.value))
    if cell.interval is not None:
        said.append(" [{}..{}]".format(*map(number, cell.interval)), style="dim")
    if cell.over_full is not None:
        sure = cell.tested is not None and cell.tested.p < SURE
        said.append(f"\n{number(cell.over_full, sign=True)}", style="bold" if sure else "")
        if cell.tested is not None:
            p = cell.tested.p
            said.append(f" p={p:.3f}" if p >= 0.001 else " p<0.001", style="dim")
    return said


def number(value: float, sign: bool = False) -> str:
    """A score in few characters: three digits behind the point, or four that count.

    Args:
        value: of a metric, whatever its unit.
        sign: also a plus.
    """
    plus = "+" if sign else ""
    return f"{value:{plus}.3f}" if abs(value) < 1000 else f"{value:{plus}.4g}"


__all__ = ["number", "scores_table", "show_scores"]
