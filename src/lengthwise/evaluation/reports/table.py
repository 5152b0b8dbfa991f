"""The comparison for a terminal: quality once a length, costs and answers a question, a legend.

Nothing is cut, however narrow the terminal: columns that do not fit beside each other follow in a
block of their own, under the same recipes. It has to read well at 60, 80 and 100 columns, in a pipe
without colour, and with recipes refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lengthwise.evaluation.metrics.choice import INTRODUCTION, WAYS
from lengthwise.evaluation.metrics.row import CompareRow
from lengthwise.evaluation.metrics.rows import CompareRows
from lengthwise.evaluation.reports.answers import answers
from lengthwise.evaluation.reports.columns import (
    COSTS,
    LOSSLESS,
    MARK,
    QUALITY,
    SOMETIMES,
    ReportColumn,
    best_of,
    full_of,
    heading,
    length_of,
    lossless_text,
    worth_showing,
)

PIPE_WIDTH = 100
# Of a line, the share that names of recipes may take before they are folded, and the least.
_NAMES, _LEAST = 0.34, 16
# Questions that are shown one by one, at most; more of them in one table.
MOST_SHOWN = 8
# Characters of a line from which on names and texts stand side by side.
_SIDE_BY_SIDE = 80


def show(rows: CompareRows, full: bool = False, file: IO[str] | None = None) -> None:
    """Prints the report: to the terminal at its own width, to a file or pipe at 100 columns.

    Args:
        rows: of one run.
        full: also print the beginnings that answers have in common.
        file: None is standard output.
    """
    console = Console(markup=False, file=file)
    if not console.is_terminal:
        console = Console(markup=False, file=file, width=PIPE_WIDTH, color_system=None)
    console.print(report(rows, full=full))


def report(rows: CompareRows, full: bool = False) -> RenderableType:
    """Everything a terminal shows of a run.

    Args:
        rows: of one run.
        full: also the beginnings that answers have in common.

    Returns:
        One thing for a rich Console to print.
    """
    if not rows:
        return Text("No recipe has finished.", style="dim")
    parts: list[RenderableType] = []
    for length in rows.lengths():
        parts += _length(rows, length, full)
    if used := _used(rows):
        parts += [Text("What the columns say", style="bold"), _legend(used), Text()]
    for length in rows.lengths():
        parts += _choice(rows, length)
    if rows.origin is not None and (machine := dict(rows.origin.lines()).get("Machine")):
        parts.append(Text(f"Machine: {machine}", style="dim"))
    return Group(*parts)


def _length(rows: CompareRows, length: int, whole: bool) -> list[RenderableType]:
    """Quality and refusals once, then what each question gave and cost, then the notes."""
    merged = rows.at_length(length)
    parts: list[RenderableType] = [Text(length_of(merged[0]), style="bold")]
    quality = _Block(QUALITY, merged, lossless=False)
    if quality.columns:
        parts += [Text(_about(merged), style="dim"), quality, Text()]
    if refused := [(row.recipe, f"refused: {row.refused}") for row in merged if row.refused]:
        parts += [_Pairs(refused), Text()]
    once = _once([row for row in rows if row.length == length])
    asked = [question for mine, question in rows.groups() if mine == length]
    if len(asked) > MOST_SHOWN:
        costs = _Block((*COSTS, *SOMETIMES), merged, lossless=True)
        said = (
            f"{heading(length, None)} · {len(asked)} questions, means of shares, medians of costs"
        )
        parts += [Text(said, style="bold"), costs, Text()]
    for (mine, question), group in rows.groups().items():
        if mine == length and len(asked) <= MOST_SHOWN:
            costs = _Block((*COSTS, *SOMETIMES), group, lossless=True)
            parts += [Text(heading(length, question), style="bold"), costs, Text()]
            parts += answers(group, whole)
            if own := _notes([row for row in group if row.refused is None], once):
                parts += [_Pairs(own, "dim"), Text()]
    ran = [row for row in rows if row.length == length and row.refused is None]
    if notes := _notes(ran, {note for row in ran for note in row.notes} - once):
        parts += [_Pairs(notes, "dim"), Text()]
    return parts


def _once(rows: Sequence[CompareRow]) -> set[str]:
    """Notes that speak of a single question, where there are several."""
    questions: dict[str, set[str | None]] = {}
    for row in rows:
        for note in row.notes:
            questions.setdefault(note, set()).add(row.question)
    several = len({row.question for row in rows}) > 1
    return {note for note, asked in questions.items() if several and len(asked) == 1}


def _about(rows: Sequence[CompareRow]) -> str:
    """What the quality columns were measured on."""
    row = next((row for row in rows if row.fidelity_tokens), None)
    parts = []
    if row is not None and row.fidelity_length:
        parts.append(
            f"agreement and kl over the last {row.fidelity_tokens:,} of {row.fidelity_length:,} "
            "tokens"
        )
    if any(row.copy_loss is not None for row in rows):
        parts.append("copy_loss and needle_loss at the whole length")
    return "; ".join(parts)


@dataclass(frozen=True)
class _Cells:
    """A column as text. head: its lines; cells: one a row, the best one in bold."""

    head: list[str]
    cells: list[Text]

    @property
    def width(self) -> int:
        return max([*map(len, self.head), *map(len, self.cells)])


class _Block:
    """A table that continues below itself where a line is too short for all of its columns."""

    def __init__(
        self, columns: Sequence[ReportColumn], rows: Sequence[CompareRow], lossless: bool
    ) -> None:
        full = full_of(rows)
        self.rows = [row for row in rows if row.refused is None]
        shown = [column for column in columns if worth_showing(column, self.rows, full)]
        self.columns = [_cells(column, self.rows, full) for column in shown]
        if lossless and self.rows:
            texts = [lossless_text(row) for row in self.rows]
            wide = max(map(len, texts))
            self.columns.append(_Cells(["lossless"], [Text(text.ljust(wide)) for text in texts]))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        longest = max((len(row.recipe) for row in self.rows), default=0)
        names = min(longest, max(_LEAST, int(width * _NAMES)))
        for gap in (2, 1):
            blocks = _packed(self.columns, width - names, gap)
            if len(blocks) == 1:
                break
        for number, columns in enumerate(blocks):
            if number:
                yield Text()
            yield self._table(columns, names, gap)

    def _table(self, columns: Sequence[_Cells], names: int, gap: int) -> Table:
        # A space between columns is the box's own.
        table = Table(box=box.SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False,
                      show_edge=False)  # fmt: skip
        table.add_column("recipe", overflow="fold", width=names, vertical="bottom")
        for column in columns:
            table.add_column("\n".join(column.head), justify="right", no_wrap=True,
                             width=column.width)  # fmt: skip
        for number, row in enumerate(self.rows):
            cells = (column.cells[number] for column in columns)
            table.add_row(Text(folded(row.recipe, names)), *cells)
        return table


def folded(recipe: str, width: int) -> str:
    """A recipe on lines of at most `width`, broken between methods and options where it can be."""
    lines = [""]
    for piece in re.split(r"(?<= \+ )|(?<=, )|(?=\()", recipe):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _packed(columns: Sequence[_Cells], room: int, gap: int) -> list[list[_Cells]]:
    """Columns in blocks that fit into `room`, each behind a gap; one that fits nowhere stands
    alone."""
    blocks: list[list[_Cells]] = []
    left = 0
    for column in columns:
        needed = column.width + gap
        if not blocks or needed > left:
            blocks.append([])
            left = room
        blocks[-1].append(column)
        left -= needed
    return blocks


def _cells(column: ReportColumn, rows: Sequence[CompareRow], full: CompareRow | None) -> _Cells:
    winner = best_of(column, rows, full)
    values = [column.text(row, full) for row in rows]
    if any(value.endswith(MARK) for value in values):
        values = [value if value.endswith(MARK) else f"{value} " for value in values]
    spreads = [column.spread(row) for row in rows]
    wide = max(map(len, spreads), default=0)
    cells = []
    for row, value, spread in zip(rows, values, spreads, strict=True):
        cell = Text(value, style="bold" if row is winner else "")
        if wide:
            cell.append(f" {spread.ljust(wide)}", style="not bold dim")
        cells.append(cell)
    return _Cells([*_head(column.head), column.unit], cells)


def _head(name: str) -> list[str]:
    """A name of a field on two lines where it is long, broken after an underscore."""
    parts = name.split("_")
    if len(name) < 9 or len(parts) < 2:
        return [name]
    middle = min(range(1, len(parts)), key=lambda n: max(_ends(parts, n)))
    return ["_".join(parts[:middle]) + "_", "_".join(parts[middle:])]


def _ends(parts: Sequence[str], middle: int) -> tuple[int, int]:
    return len("_".join(parts[:middle])) + 1, len("_".join(parts[middle:]))


def _used(rows: CompareRows) -> list[ReportColumn]:
    """The columns that some table of the run shows."""
    full = full_of(rows)
    ran = [row for row in rows if row.refused is None]
    return [c for c in (*QUALITY, *COSTS, *SOMETIMES) if worth_showing(c, ran, full)]


def _legend(columns: Sequence[ReportColumn]) -> RenderableType:
    pairs = [(f"{column.head} ({column.unit})", column.legend()) for column in columns]
    return _Pairs([*pairs, ("lossless", LOSSLESS)], "dim")


def _notes(rows: Sequence[CompareRow], wanted: set[str]) -> list[tuple[str, str]]:
    """Every wanted note once, with the recipes that it is of."""
    every = list(dict.fromkeys(row.recipe for row in rows))
    pairs = []
    for note in dict.fromkeys(note for row in rows for note in row.notes if note in wanted):
        mine = list(dict.fromkeys(row.recipe for row in rows if note in row.notes))
        whose = "all recipes" if len(mine) == len(every) > 1 else ", ".join(mine)
        pairs.append((whose, note))
    return pairs


def _choice(rows: CompareRows, length: int) -> list[RenderableType]:
    choice = rows.best(length)
    text = Text(f"At {length:,} tokens: ", style="bold")
    if choice.goal is None and len(choice.front) > 1:
        text.append("the trade-off", style="bold green")
        text.append(f". {INTRODUCTION}:", style="not bold")
        pairs = _Pairs(list(zip(choice.front, choice.reasons, strict=True)), "")
        return [text, pairs, Text(WAYS, style="dim")]
    text.append(choice.recipe or "no pick", style="bold green" if choice.recipe else "bold")
    return [text.append(f". {choice.why}", style="not bold")]


@dataclass(frozen=True)
class _Pairs:
    """Names and what is said of them, side by side; below each other where a line is short."""

    pairs: Sequence[tuple[str, str]]
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        style = self.style
        if options.max_width < _SIDE_BY_SIDE:
            for name, text in self.pairs:
                yield Text(name, style=style or "cyan", overflow="fold")
                yield Padding(Text(text, style=style, overflow="fold"), (0, 0, 0, 2))
            return
        wide = int(0.36 * options.max_width)
        grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
        grid.add_column(overflow="fold", width=min(wide, max(len(n) for n, _ in self.pairs)))
        grid.add_column(ratio=1, overflow="fold")
        for name, text in self.pairs:
            grid.add_row(Text(name, style=style or "cyan"), Text(text, style=style))
        yield grid
