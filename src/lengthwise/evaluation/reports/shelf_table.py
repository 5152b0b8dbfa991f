"""The shelf as a table, for a terminal and as markdown, and ours beside another library's.

It has to read well at 100 columns and in a pipe without colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.shelf_rows import FULL, TOLERANCE, ShelfRow, ShelfRows, grouped
from lengthwise.evaluation.reports.columns import DASH, number
from lengthwise.evaluation.reports.table import PIPE_WIDTH

# Stands behind a share that is not the one asked for.
OFF = "!"
HEADS = ("held\n%", "read\n%", "KL\nnats", "±", "loss\nover", "copy\nnats", "keys\nnats",
         "read\ns", "tok/s", "peak\nMB")  # fmt: skip
LEGEND = (
    f"held: bytes in % of full's when the context was compressed. read: tokens that a decoding "
    f"step of a selection read. {OFF}: over {TOLERANCE:.0%} from what was asked for. KL: of the "
    "next tokens, from full's. loss over: their loss less full's. copy, keys: loss of words and "
    "keys planted in the text. read s: seconds to read and compress it."
)


def show(rows: ShelfRows, file: IO[str] | None = None) -> None:
    """Prints the shelf: to the terminal at its own width, to a file or pipe at 100 columns.

    Args:
        rows: of one run.
        file: None is standard output.
    """
    console = Console(markup=False, file=file)
    if not console.is_terminal:
        console = Console(markup=False, file=file, width=PIPE_WIDTH, color_system=None)
    console.print(report(rows))


def report(rows: ShelfRows) -> RenderableType:
    """Everything a terminal shows of a shelf.

    Args:
        rows: of one run.

    Returns:
        One thing for a rich Console to print.
    """
    if not rows.rows:
        return Text("Nothing has been measured.", style="dim")
    parts: list[RenderableType] = [Text(heading(rows.rows[0]), style="bold"), Text()]
    by_question: dict[str, list[list[ShelfRow]]] = {}
    for (question, _), group in rows.groups().items():
        by_question.setdefault(question, []).append(group)
    for question, groups in by_question.items():
        parts += [Text(question, style="bold"), _table(groups, rows.full), Text()]
    said = [*refusals(rows), *left_out(rows), LEGEND]
    parts += [Text(line, style="dim") for line in said]
    parts += [Text(f"{label}: {text}", style="dim") for label, text in _origin(rows.rows[-1])]
    return Group(*parts)


def heading(row: ShelfRow) -> str:
    """What all rows of a table have in common, in a line."""
    when = "in the prompt" if row.query_aware else "after compression"
    return (
        f"{row.length:,} tokens of {row.document}, {row.follow:,} foretold, questions {when} · "
        f"{row.model}, {row.dtype}, {row.device}"
    )


def _table(groups: Iterable[Sequence[ShelfRow]], full: ShelfRow | None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("%", justify="right", vertical="bottom", no_wrap=True)
    table.add_column("recipe", overflow="fold", min_width=24, vertical="bottom")
    for head in HEADS:
        table.add_column(head, justify="right", no_wrap=True, vertical="bottom")
    if full is not None:
        table.add_row("", Text(FULL, style="bold"), *cells(full, full))
        table.add_section()
    for group in groups:
        for place, row in enumerate(group):
            asked = f"{100 * row.share:.4g}" if place == 0 else ""
            table.add_row(asked, Text(row.recipe), *cells(row, full))
        table.add_section()
    return table


def cells(row: ShelfRow, full: ShelfRow | None) -> list[str]:
    """The measured cells of a row, under `HEADS`.

    Args:
        row: of the shelf.
        full: the row of full attention, whose loss is taken off.
    """
    if row.refused is not None:
        return ["refused", *[DASH] * (len(HEADS) - 1)]
    over = None if row.loss is None or full is None or full.loss is None else row.loss - full.loss
    selects = row.question == "selection"
    return [
        _percent(row.held) + (OFF if row.off and not selects else ""),
        _percent(row.read) + (OFF if row.off and selects else ""),
        number(row.kl, 3), number(row.kl_error, 3), number(over, 3), number(row.copy_loss),
        number(row.needle_loss), number(row.prefill_s, 1), number(row.tokens_per_s, 1),
        number(None if row.kv_peak_bytes is None else row.kv_peak_bytes / 1e6, 1),
    ]  # fmt: skip


def _percent(share: float | None) -> str:
    return number(None if share is None else 100 * share, 1)


def refusals(rows: Iterable[ShelfRow]) -> list[str]:
    """Why methods did not run, and what a reader has to know of those that did, once each."""
    notes: dict[str, list[str]] = {}
    for row in rows:
        said = [] if row.refused is None else [f"refused: {row.refused}"]
        for note in (*said, *row.notes):
            notes.setdefault(note, []).append(row.recipe)
    return [f"{', '.join(dict.fromkeys(whose))}: {note}" for note, whose in notes.items()]


def left_out(rows: ShelfRows) -> list[str]:
    """Methods that are not on the shelf, with the reason."""
    said = []
    if rows.without:
        said.append(f"No setting for a share, and so not here: {', '.join(rows.without)}.")
    said += [f"{name} cannot be loaded: {error}" for name, error in rows.broken.items()]
    return said


def _origin(row: ShelfRow) -> list[tuple[str, str]]:
    found = {name: value for name, value in row.origin.items() if name != "date"}
    return Origin(**found).lines() if found else []


def markdown(rows: ShelfRows) -> str:
    """The shelf as tables of markdown, one a question.

    Args:
        rows: of one run.
    """
    if not rows.rows:
        return "Nothing has been measured.\n"
    heads = ["%", "recipe", *(head.replace("\n", " ") for head in HEADS)]
    lines = [heading(rows.rows[0]), ""]
    previous = ""
    for (question, _), group in rows.groups().items():
        if question != previous:
            lines += ["", f"### {question}", "", *_markdown_head(heads)]
            if rows.full is not None:
                lines.append(_line(["", FULL, *cells(rows.full, rows.full)]))
        previous = question
        for row in group:
            lines.append(
                _line([f"{100 * row.share:.4g}", f"`{row.recipe}`", *cells(row, rows.full)])
            )
    lines += ["", *(f"- {line}" for line in [*refusals(rows), *left_out(rows), LEGEND])]
    lines += [f"- {label}: {text}" for label, text in _origin(rows.rows[-1])]
    return "\n".join(lines) + "\n"


def against(ours: Sequence[ShelfRow], theirs: Sequence[ShelfRow]) -> str:
    """Ours beside another library's, method by method and share by share, as markdown.

    A KL within two standard errors of the two together is "even". Rows of another setting than the
    first of ours are left out.

    Args:
        ours: rows of `bench shelf`.
        theirs: rows of the same text from another library, with our names of methods.
    """
    setting = ours[0].setting if ours else None
    ours = [row for row in ours if row.setting == setting]
    theirs = [row for row in theirs if row.setting == setting]
    if not theirs:
        return "There are no rows of the same model, text and dtype to compare.\n"
    lines = [heading(ours[0]), "", f"Theirs: {theirs[0].engine}", ""]
    lines += _markdown_head(["%", "method", "whose", "recipe", "held %", "KL nats", "loss",
                             "copy nats", "keys nats", "KL is"])  # fmt: skip
    for method in dict.fromkeys(row.method for row in theirs):
        mine = {share: rows for (_, share), rows in grouped(_of(ours, method)).items()}
        for (_, share), rows in grouped(_of(theirs, method)).items():
            best = _best(mine.get(share, []))
            for row in (*mine.get(share, []), *rows):
                lines.append(_line(_beside(row, best)))
    return "\n".join([*lines, "", *(f"- {line}" for line in refusals(theirs))]) + "\n"


def _of(rows: Sequence[ShelfRow], method: str) -> list[ShelfRow]:
    return [row for row in rows if row.method == method]


def _best(rows: Sequence[ShelfRow]) -> ShelfRow | None:
    return next((row for row in rows if row.kl is not None), None)


def _beside(row: ShelfRow, ours: ShelfRow | None) -> list[str]:
    said = ""
    if row.engine != "lengthwise" and ours is not None and row.kl is not None:
        assert ours.kl is not None
        room = 2 * ((row.kl_error or 0) ** 2 + (ours.kl_error or 0) ** 2) ** 0.5
        gap = ours.kl - row.kl
        said = "even" if abs(gap) <= room else "better with us" if gap < 0 else "worse with us"
    return [
        f"{100 * row.share:.4g}", row.method or FULL, row.engine, f"`{row.recipe}`",
        "refused" if row.refused else _percent(row.held) + (OFF if row.off else ""),
        number(row.kl, 3) + (f" ± {row.kl_error:.3f}" if row.kl_error else ""),
        number(row.loss, 3), number(row.copy_loss), number(row.needle_loss), said,
    ]  # fmt: skip


def _markdown_head(heads: Sequence[str]) -> list[str]:
    return [_line(heads), "|" + "---|" * len(heads)]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


__all__ = ["against", "markdown", "report", "show"]
