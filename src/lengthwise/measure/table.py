"""The comparison for a terminal: one table per length and question, the answers under it.

It has to read well at 100 columns, in a pipe without colour, and with recipes refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lengthwise.measure.columns import COLUMNS, best_of, full_of, heading, lossless_text
from lengthwise.measure.rows import Row, Rows

PIPE_WIDTH = 100


def show(rows: Rows, full: bool = False, file: IO[str] | None = None) -> None:
    """Print the report: to the terminal at its own width, to a file or pipe at 100 columns.

    full: print whole answers instead of one line each.
    """
    console = Console(file=file)
    if not console.is_terminal:
        console = Console(file=file, width=PIPE_WIDTH, color_system=None)
    console.print(report(rows, full=full))


def report(rows: Rows, full: bool = False) -> RenderableType:
    """Everything a terminal shows of a run, as one thing to print."""
    if not rows:
        return Text("No recipe has finished.", style="dim")
    parts: list[RenderableType] = []
    for (length, question), group in rows.groups().items():
        parts += _group(heading(length, question), group, full)
    for length in rows.lengths():
        choice = rows.best(length)
        text = Text(f"At {length:,} tokens: ", style="bold")
        text.append(choice.recipe or "no pick", style="bold green" if choice.recipe else "bold")
        parts.append(text.append(f". {choice.why}", style="not bold"))
    return Group(*parts)


def _group(title: str, rows: Sequence[Row], full: bool) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(title, style="bold"), _measures(rows)]
    refused = [(row.recipe, f"refused: {row.refused}") for row in rows if row.refused is not None]
    answers = [(row.recipe, row.answer) for row in rows if row.answer is not None]
    noted = dict.fromkeys(note for row in rows for note in row.notes)
    notes = [(", ".join(row.recipe for row in rows if note in row.notes), note) for note in noted]
    if refused:
        parts.append(_pairs(refused, whole=True, style="dim"))
    if answers:
        parts.append(_pairs(answers, whole=full))
    if notes:
        parts.append(_pairs(notes, whole=True, style="dim"))
    return [part if i == 0 else Padding(part, (0, 0, 1, 0)) for i, part in enumerate(parts)]


def _measures(rows: Sequence[Row]) -> Table:
    full = full_of(rows)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("recipe", overflow="fold", min_width=14, vertical="bottom")
    for column in COLUMNS:
        table.add_column(f"{column.head}\n{column.unit}", justify="right", no_wrap=True)
    table.add_column("loss-\nless", justify="right", no_wrap=True)
    winners = [best_of(column, rows, full) for column in COLUMNS]
    for row in rows:
        if row.refused is not None:
            continue
        cells = [
            Text(column.text(row, full), style="bold" if row is winner else "")
            for column, winner in zip(COLUMNS, winners, strict=True)
        ]
        table.add_row(Text(row.recipe), *cells, lossless_text(row))
    return table


def _pairs(pairs: Sequence[tuple[str, str]], whole: bool, style: str = "") -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(ratio=3, overflow="fold" if whole else "ellipsis", no_wrap=not whole)
    grid.add_column(ratio=7, overflow="fold" if whole else "ellipsis", no_wrap=not whole)
    for name, text in pairs:
        shown = text if whole else " ".join(text.split())
        grid.add_row(Text(name, style=style or "cyan"), Text(shown, style=style))
    return grid
