"""The drafting suite for a terminal: a table a context, a block a kind of work.

It has to read well at 100 columns and in a pipe without colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import IO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lengthwise.evaluation.metrics.drafting_rows import BOTH, DraftingRow, DraftingRows
from lengthwise.evaluation.reports.columns import DASH, MARK, number
from lengthwise.evaluation.reports.table import PIPE_WIDTH

_HEADS = ("tok/s", "×plain", "over the\nprompts", "tok/\nround", "right guesses\nby drafter",
          "draft\ns", "verify\ns", "rest\ns", "as\nplain")  # fmt: skip
_TEXT = ("right guesses\nby drafter",)


def show(rows: DraftingRows, file: IO[str] | None = None, lengths: bool = False) -> None:
    """Prints the suite: to the terminal at its own width, to a file or pipe at 100 columns.

    Args:
        rows: of one suite.
        file: None is standard output.
        lengths: also print how many tokens its rounds brought.
    """
    console = Console(markup=False, file=file)
    if not console.is_terminal:
        console = Console(markup=False, file=file, width=PIPE_WIDTH, color_system=None)
    console.print(report(rows))
    if lengths:
        console.print(accept_lengths(rows))


def report(rows: DraftingRows) -> RenderableType:
    """Everything a terminal shows of a suite.

    Args:
        rows: of one suite.

    Returns:
        One thing for a rich Console to print.
    """
    if not rows.rows:
        return Text("No kind of work has finished.", style="dim")
    parts: list[RenderableType] = []
    for context in dict.fromkeys(row.context for row in rows.rows):
        mine = [row for row in rows.rows if row.context == context]
        parts += [Text(_title(context, mine), style="bold"), _table(mine), Text()]
    parts += [Text(line, style="dim") for line in _remarks(rows.rows)]
    parts += [Text(f"{label}: {text}", style="dim") for label, text in rows.origin.lines()]
    return Group(*parts)


def _title(context: str, rows: Sequence[DraftingRow]) -> str:
    first = rows[0]
    lengths = sorted({row.context_tokens for row in rows if row.context_tokens})
    span = f"{lengths[0]:,} to {lengths[-1]:,}" if len(lengths) > 1 else f"{lengths[0]:,}"
    length = "both contexts together" if context == BOTH else f"{context} context, {span} tokens"
    batch = f", batch {first.batch}" if first.batch > 1 else ""
    drawn = f", temperature {first.temperature:g}" if first.temperature else ""
    return (
        f"{length} · up to {first.new_tokens} new tokens, rounds: {first.rounds}, tables "
        f"{first.tables}{batch}{drawn} · {first.model}, {first.dtype}, {first.device}"
    )


def _table(rows: Sequence[DraftingRow]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("kind of\nwork", vertical="bottom", no_wrap=True)
    table.add_column("recipe", overflow="fold", min_width=19, vertical="bottom")
    for head in _HEADS:
        wide = head in _TEXT
        table.add_column(head, justify="left" if wide else "right", no_wrap=not wide)
    for kind, group in groupby(rows, key=lambda row: row.kind):
        block = list(group)
        best = max((row.tokens_per_s or 0.0 for row in block), default=0.0)
        for place, row in enumerate(block):
            name = Text(kind if place == 0 else "", style="bold")
            style = "bold" if row.tokens_per_s and row.tokens_per_s == best else ""
            table.add_row(name, Text(row.recipe, style=style), *_cells(row))
        table.add_section()
    return table


def _cells(row: DraftingRow) -> list[str]:
    if row.refused is not None:
        return ["refused", *[DASH] * (len(_HEADS) - 1)]
    shares = sorted(row.shares.items(), key=lambda item: -item[1])
    # The figures of another text than plain decoding's are marked where they stand.
    mark = MARK if row.equal is False else ""
    return [
        number(row.tokens_per_s, 1) + mark, number(row.ratio) + mark, _spread(row),
        number(row.tokens_per_round),
        ", ".join(f"{name} {share:.0%}" for name, share in shares) or DASH,
        number(row.draft_s), number(row.verify_s), number(row.rest_s),
        _equality(row),
    ]  # fmt: skip


def _spread(row: DraftingRow) -> str:
    """The lowest and the highest ratio of a prompt, where there are several."""
    if row.prompts <= row.batch or row.ratio_low is None or row.ratio_high is None:
        return DASH
    return f"{row.ratio_low:.2f}-{row.ratio_high:.2f}"


def accept_lengths(rows: DraftingRows) -> RenderableType:
    """A line a row: which share of its rounds brought one token, two tokens, and so on."""
    lines = [Text("Tokens that a round brought, share of the rounds", style="bold")]
    for row in rows.rows:
        total = sum(row.accept_lengths.values())
        if total and row.recipe != row.plain:
            shares = ", ".join(f"{n}: {c / total:.0%}" for n, c in row.accept_lengths.items())
            lines.append(Text(f"{row.context} {row.kind}, {row.recipe}: {shares}"))
    return Group(*lines)


def _equality(row: DraftingRow) -> str:
    """Whether the texts are those of plain decoding, or how many of them are."""
    if row.equal is None:
        return DASH
    return "yes" if row.equal else f"{row.prompts - len(row.divergences)}/{row.prompts}"


def _remarks(rows: Sequence[DraftingRow]) -> list[str]:
    """Reasons of refusals, notes, and every first divergence, once each."""
    said: list[str] = []
    if any(row.equal is False for row in rows):
        said.append(
            f"{MARK} some of these texts are not those of plain decoding, which two tokens that "
            "are as good as equally likely can do in 16 bits: the speeds are those of other texts"
        )
    for row in rows:
        if row.refused is not None:
            said.append(f"{row.recipe}: refused: {row.refused}")
        said += [f"{row.recipe}: {note}" for note in row.notes]
        said += [
            f"{row.recipe}: leaves the text of {row.plain} at new token {each.position} of "
            f"{each.prompt} ({row.context}), where the top two logits are {each.gap:.3g} apart"
            for each in row.divergences
            if row.context != BOTH and each.prompt.startswith(f"{row.kind}/")
        ]
    return list(dict.fromkeys(said))
