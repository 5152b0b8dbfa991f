"""A chart of rows: what several series have of each named thing, as markers on a line."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from markupsafe import Markup

from lengthwise.evaluation.reports import labels, svg
from lengthwise.evaluation.reports.svg import BOTTOM, RIGHT, TOP, ChartFrame, Scale

PITCH = 16.0
_MOST_ROOM = 0.34  # of a chart's width, for the names of rows
_MARK = 4.5


@dataclass(frozen=True, slots=True)
class Row:
    """name: of it. values: of each series, None where it has none."""

    name: str
    values: Seq[float | None]


def height_of(rows: int) -> float:
    """How high a chart of so many rows is.

    Args:
        rows: how many.
    """
    return TOP + BOTTOM + PITCH * rows


def row_chart(frame: ChartFrame, rows: Seq[Row], series: Seq[str], line: float = 1.0) -> Markup:
    """Markers in rows, the first row on top.

    Args:
        frame: its height is that of `height_of`.
        rows: one at least.
        series: their names, in the order of their colours.
        line: a value to mark across all rows.
    """
    widest = max(labels.text_width(row.name) for row in rows)
    left = min(widest, _MOST_ROOM * frame.width) + 10
    right, bottom = frame.width - RIGHT, frame.height - BOTTOM
    known = [value for row in rows for value in row.values if value is not None]
    x = Scale(0.0, max([*known, line]) * 1.04 or 1.0, left, right)
    parts = [_grid(x, frame, bottom), svg.rule("limit", x(line), TOP - 4, x(line), bottom)]
    for number, row in enumerate(rows):
        parts.append(_row(row, series, x, TOP + PITCH * (number + 0.5), left))
    parts.append(svg.text("title end", right, frame.height - 6, frame.x_title))
    return svg.chart(frame, parts)


def _grid(x: Scale, frame: ChartFrame, bottom: float) -> Markup:
    parts = []
    for value in svg.ticks(x.low, x.high, 6 if frame.width >= 420 else 4):
        parts.append(svg.rule("grid", x(value), TOP, x(value), bottom))
        for height in (TOP - 8, bottom + 17):
            parts.append(svg.text("tick", x(value), height, f"{value:g}"))
    return Markup("").join(parts)


def _row(row: Row, series: Seq[str], x: Scale, y: float, left: float) -> Markup:
    known = [value for value in row.values if value is not None]
    name = labels.shortened(row.name, left - 10)
    parts = [svg.text("tick end", left - 6, y + 4, name)]
    if known:
        parts.append(svg.rule("lead", x(min(known)), y, x(max(known)), y))
    for number, value in enumerate(row.values):
        if value is None:
            continue
        marker = svg.marker(number, x(value), y, _MARK)
        parts.append(Markup('<g class="{}"><title>{}</title>{}</g>').format(
            svg.series_class(number), f"{row.name}, {series[number]}: {value:.2f}", marker
        ))  # fmt: skip
    return Markup("").join(parts)


__all__ = ["PITCH", "Row", "height_of", "row_chart"]
