"""The comparison as one page: it opens from a mail or a phone, and loads nothing from anywhere.

The page and its style are `templates/page.html` and `templates/style.css`; what stands here says
what is on it. The templates escape every text that came from a user, a document or a model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lengthwise._utils.outputs import MARK
from lengthwise.evaluation.metrics.choice import INTRODUCTION, WAYS, RecipeChoice
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.row import CompareRow
from lengthwise.evaluation.metrics.rows import CompareRows
from lengthwise.evaluation.reports import charts
from lengthwise.evaluation.reports.columns import (
    COLUMNS,
    NEEDLE,
    SOMETIMES,
    ReportColumn,
    best_of,
    full_of,
    length_of,
    lossless_text,
    number,
    worth_showing,
)  # fmt: skip
from lengthwise.evaluation.reports.html_answers import AnsweredQuestion, questions
from lengthwise.evaluation.reports.pages import clean, environment, numbered

_CAPTION = 60  # characters of a question in a caption


def page(rows: CompareRows, title: str, origin: Origin | None = None) -> str:
    """The whole page for `rows`.

    Args:
        rows: of one run, maybe none.
        title: of the page.
        origin: machine, versions and command; None leaves them out.

    Returns:
        HTML that loads nothing from anywhere.
    """
    numbers = numbered(row.recipe for row in rows)
    sections = [_section(rows, length, i, numbers) for i, length in enumerate(rows.lengths())]
    shown = {key for section in sections for key, *_ in section["columns"]}
    text = (
        environment(numbers)
        .get_template("page.html")
        .render(
            title=title,
            mark=MARK,
            introduction=INTRODUCTION,
            ways=WAYS,
            facts=_facts(rows, origin),
            # The machine stands at the top, the rest of where the numbers come from at the end.
            origin=origin.lines()[1:] if origin is not None else [],
            sections=sections,
            meanings=[
                (_key(c), c.head, c.unit, c.title, _better(c))
                for c in (*COLUMNS, *SOMETIMES)
                if _key(c) in shown
            ],
            interrupted=rows.interrupted,
        )
    )
    return clean(text)


def _facts(rows: CompareRows, origin: Origin | None) -> list[tuple[str, str]]:
    """What ran, on what: the first lines of the page."""
    models = dict.fromkeys(f"{row.model}, {row.dtype}, {row.device}" for row in rows)
    trained = f"{rows.trained_length:,} tokens" if rows.trained_length is not None else ""
    facts = [
        ("Document", rows.document or ""),
        ("Model", "; ".join(models)),
        ("Trained for", trained),
        *(origin.lines()[:1] if origin is not None else []),
    ]
    return [(label, text) for label, text in facts if text]


@dataclass(frozen=True, slots=True)
class _Cell:
    """text: the value. spread: its interval. mark: set where it is of another text. said: more,
    as a tooltip."""

    text: str
    spread: str = ""
    mark: str = ""
    said: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of the table: refused with a reason, or a cell for each column."""

    recipe: str
    refused: str | None
    cells: Sequence[_Cell]
    lossless: str
    chosen: bool
    front: bool


def _section(
    rows: CompareRows, length: int, index: int, numbers: Mapping[str, int]
) -> dict[str, Any]:
    """Everything the page says of one length."""
    merged = rows.at_length(length)
    choice = rows.best(length)
    asked = questions([row for row in rows if row.length == length])
    setting = charts.Setting(
        f"s{index}", _of(length, asked), f"at {length:,} tokens", numbers,
        frozenset({"full", *choice.front, *([choice.recipe] if choice.recipe else [])}),
        rows.full_is_valid(length), rows.trained_length,
    )  # fmt: skip
    columns, lines = _table(merged, choice)
    return {
        "key": setting.key,
        "length": length_of(merged[0]),
        "against": _against_trained(rows, length),
        "choice": choice,
        "goal": choice.goal,
        "front": choice.front,
        "trade_off": charts.trade_off(merged, setting),
        "columns": [(_key(c), c.head, c.unit, _better(c)) for c in columns],
        "lines": lines,
        "said": _said(merged, asked),
        "marked": any(cell.mark for line in lines for cell in line.cells),
        "questions": asked,
        "losses": charts.losses(merged, setting),
        "bars": _bars(merged),
    }


def _of(length: int, asked: Sequence[AnsweredQuestion]) -> str:
    """Length and questions in words, for captions."""
    said = [question.text for question in asked if question.text]
    if len(said) == 1:
        short = said[0] if len(said[0]) <= _CAPTION else said[0][:_CAPTION].rstrip() + "…"
        return f"at {length:,} tokens, asked “{short}”"
    return f"at {length:,} tokens" + (f", over {len(said)} questions" if said else "")


def _said(rows: Sequence[CompareRow], asked: Sequence[AnsweredQuestion]) -> str:
    """What the figures of the table were measured on."""
    parts = []
    counts = {n for row in rows if (n := row.fidelity_tokens)}
    if len(counts) == 1:
        parts.append(
            f"Agreement and KL are of {counts.pop():,} tokens; beside them the 95% interval of the "
            "one and the standard error of the other."
        )
    if len(asked) > 1 and any(row.copy_loss is not None for row in rows):
        parts.append(
            f"Quality is measured once a recipe; seconds, tokens a second and bytes are medians "
            f"over {len(asked)} questions."
        )
    return " ".join(parts)


def _against_trained(rows: CompareRows, length: int) -> str:
    trained = rows.trained_length
    if trained is None:
        return ""
    if length <= trained:
        return f"within the {trained:,} that the model was trained for"
    return f"{length / trained:.2g} times what the model was trained for"


def _key(column: ReportColumn) -> str:
    return re.sub(r"\W+", "-", f"{column.head}-{column.unit}".lower()).strip("-")


def _better(column: ReportColumn) -> str:
    return "more" if column.better == "high" else "less"


def _table(
    rows: Sequence[CompareRow], choice: RecipeChoice
) -> tuple[list[ReportColumn], list[_Line]]:
    full = full_of(rows)
    columns = [c for c in (*COLUMNS, *SOMETIMES) if worth_showing(c, rows, full)]
    winners = [best_of(column, rows, full) for column in columns]
    lines = [
        _Line(
            row.recipe, row.refused,
            [_cell(c, row, full, row is w) for c, w in zip(columns, winners, strict=True)],
            lossless_text(row), row.recipe == choice.recipe, row.recipe in choice.front,
        )
        for row in rows
    ]  # fmt: skip
    return columns, lines


def _cell(column: ReportColumn, row: CompareRow, full: CompareRow | None, best: bool) -> _Cell:
    depths = ""
    if column is NEEDLE and row.needle_by_depth:
        depths = ", ".join(f"{number(y)} at depth {x:g}" for x, y in row.needle_by_depth)
    text = number(column.value(row, full), column.decimals)
    return _Cell(text, column.spread(row), column.mark(row), depths, best)


@dataclass(frozen=True, slots=True)
class _Bar:
    """Bytes of a recipe: kept and peak in percent of the largest on the page, and as text."""

    recipe: str
    kept: float
    peak: float
    text: str


def _bars(rows: Sequence[CompareRow]) -> list[_Bar]:
    ran = [row for row in rows if row.kv_bytes is not None]
    widest = max((max(row.kv_bytes or 0, row.kv_peak_bytes or 0) for row in ran), default=0)
    if not widest:
        return []
    return [_bar(row, widest) for row in ran]


def _bar(row: CompareRow, widest: int) -> _Bar:
    kept, peak = row.kv_bytes or 0, row.kv_peak_bytes
    text = number(kept / 1e6, 1) + (f" / {number(peak / 1e6, 1)}" if peak is not None else "")
    return _Bar(row.recipe, 100 * kept / widest, 100 * (peak or 0) / widest, text)
