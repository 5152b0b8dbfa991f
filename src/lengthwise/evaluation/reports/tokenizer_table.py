"""A report on tokenizers for a terminal."""

from __future__ import annotations

from typing import IO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lengthwise.evaluation.reports.table import PIPE_WIDTH
from lengthwise.evaluation.reports.tokenizer_blocks import Block, blocks, notes
from lengthwise.tokenization.report import Report

# The longest name of a row that is not broken.
_NAME = 28


def show_tokenizers(report: Report, file: IO[str] | None = None) -> None:
    """Prints a report.

    Args:
        report: of tokenizers.
        file: None is standard output.
    """
    console = Console(markup=False, file=file)
    if not console.is_terminal:
        console = Console(markup=False, file=file, width=PIPE_WIDTH, color_system=None)
    parts: list[RenderableType] = []
    for block in blocks(report):
        parts.append(Text(block.title, style="bold"))
        parts += [_table(block, columns) for columns in _beside(block, console.width)]
        parts += [Text(block.said, style="dim")] * bool(block.said) + [Text()]
    parts += [Text(note, style="dim") for note in notes(report)]
    console.print(Group(*parts), highlight=False)


def _beside(block: Block, width: int) -> list[range]:
    """Columns that stand beside each other; what does not fit follows below."""
    left = min(max(len(name) for name in (block.by, *(name for name, _ in block.rows))), _NAME)
    groups, start, used = [], 0, left + 2
    for at, (head, unit) in enumerate(block.heads):
        wide = max(len(head), len(unit), *(len(cells[at]) for _, cells in block.rows)) + 2
        if used + wide > width and at > start:
            groups.append(range(start, at))
            start, used = at, left + 2
        used += wide
    return [*groups, range(start, len(block.heads))]


def _table(block: Block, columns: range) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(Text(block.by), overflow="fold", vertical="bottom", min_width=8)
    for at in columns:
        head, unit = block.heads[at]
        table.add_column(Text(f"{head}\n{unit}".strip()), justify="right", vertical="bottom")
    for name, cells in block.rows:
        table.add_row(Text(name), *(Text(cells[at]) for at in columns))
    return table


__all__ = ["show_tokenizers"]
