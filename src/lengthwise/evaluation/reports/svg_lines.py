"""A chart of lines over position, named at their ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lengthwise.evaluation.reports import labels, svg
from lengthwise.evaluation.reports.labels import Box
from lengthwise.evaluation.reports.svg import BOTTOM, LEFT, TOP, ChartFrame, Scale, padded

_BOLD = 1.12 * labels.SIZE  # bold text is as wide as plain text of this size
_MOST_ROOM = 0.24  # of a chart's width, for what stands at the ends of lines
_HEIGHT = 13.0  # of a label at the end of a line
_SAME = 0.6  # lines that are nowhere further apart than this, in chart units, are drawn as one


@dataclass(frozen=True, slots=True)
class Line:
    """points: (x, y) in data units. index: colour. label: short. title: tooltip.

    band: (x, low, high), shaded. strong: drawn thick, on top.
    """

    points: Sequence[tuple[float, float]]
    index: int
    label: str
    title: str
    band: Sequence[tuple[float, float, float]] = ()
    strong: bool = False


def curves(
    frame: ChartFrame,
    lines: Sequence[Line],
    mark: tuple[float, str] | None = None,
    zero: bool = False,
) -> Markup:
    """Lines over position, each named at its end; those that lie on one another share a label.

    mark: a position to point out, with its label. zero: show where y is 0. There has to be a line
    with a point.
    """
    # Which lines lie on one another hangs on the height of the chart alone, the room for what is
    # written at their ends on which do.
    y = _height_scale(frame, lines, zero)
    groups = _same(lines, y)
    ends = [_end_text(group, frame.width >= 420) for group in groups]
    room = min(max(labels.text_width(end, _BOLD) for end in ends), _MOST_ROOM * frame.width)
    area = Box(LEFT, TOP, frame.width - room - 18, frame.height - BOTTOM)
    x = Scale(0, max(px for line in lines for px, _ in line.points) or 1.0, area.left, area.right)
    parts = [svg.axes(frame, area, x, y)]
    if zero:
        parts.append(svg.rule("zero", area.left, y(0), area.right, y(0)))
    if mark is not None and x.low <= mark[0] <= x.high:
        parts.append(_limit(x(mark[0]), mark[1], area))
    drawn = sorted(groups, key=lambda group: any(line.strong for line in group))
    parts += [_line(group, x, y) for group in drawn]
    parts.append(_end_labels(groups, ends, x, y, area, room))
    return svg.chart(frame, parts)


def _limit(at: float, said: str, area: Box) -> Markup:
    right = at > (area.left + area.right) / 2
    note = svg.text(f"note {'end' if right else 'start'}", at + (-5 if right else 5), area.top - 6,
                     said)  # fmt: skip
    return svg.rule("limit", at, area.top - 4, at, area.bottom) + note


def _height_scale(frame: ChartFrame, lines: Sequence[Line], zero: bool) -> Scale:
    ys = [py for line in lines for _, py in line.points]
    ys += [y for line in lines for _, *ends in line.band for y in ends]
    return Scale(*padded([*ys, 0.0] if zero else ys), frame.height - BOTTOM, TOP)


def _same(lines: Sequence[Line], y: Scale) -> list[list[Line]]:
    """Lines by those that cannot be seen apart, in their order."""
    groups: list[list[Line]] = []
    for line in lines:
        for group in groups:
            if _one_place(group[0], line, y):
                group.append(line)
                break
        else:
            groups.append([line])
    return groups


def _one_place(a: Line, b: Line, y: Scale) -> bool:
    return [p[0] for p in a.points] == [p[0] for p in b.points] and all(
        abs(y(p[1]) - y(q[1])) < _SAME for p, q in zip(a.points, b.points, strict=True)
    )


def _band(line: Line, x: Scale, y: Scale) -> Markup:
    if not line.band:
        return Markup("")
    there = [f"{x(at):.1f},{y(high):.1f}" for at, _, high in line.band]
    back = [f"{x(at):.1f},{y(low):.1f}" for at, low, _ in reversed(line.band)]
    return Markup('<polygon class="band" points="{}"/>').format(" ".join(there + back))


def _line(group: Sequence[Line], x: Scale, y: Scale) -> Markup:
    first = next((line for line in group if line.strong), group[0])
    path = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in first.points)
    marks = [svg.marker(first.index, x(px), y(py), 3) for px, py in _every(first, x)]
    return Markup(
        '<g class="series {}{}"><title>{}</title>{}<polyline class="line{}" points="{}"/>{}</g>'
    ).format(
        svg.series_class(first.index), " main" if first.strong else "",
        "; ".join(line.title for line in group), _band(first, x, y),
        " strong" if first.strong else "", path, Markup("").join(marks),
    )  # fmt: skip


def _every(line: Line, x: Scale) -> list[tuple[float, float]]:
    """Points that get a marker: at most one in 40 chart units, each recipe's at its own phase."""
    if len(line.points) < 2:
        return list(line.points)
    pitch = (x(line.points[-1][0]) - x(line.points[0][0])) / (len(line.points) - 1)
    step = max(1, math.ceil(40 / max(pitch, 1e-6)))
    return list(line.points[line.index % step :: step])


def _end_text(group: Sequence[Line], wide: bool) -> str:
    """The numbers of lines in one place, runs of them as such; a single one's name too."""
    numbers = sorted(line.index + 1 for line in group)
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [f"{run[0]}–{run[-1]}" if len(run) > 2 else " ".join(map(str, run)) for run in runs]
    return " ".join([*parts, group[0].label] if wide and len(group) == 1 else parts)


def _end_labels(
    groups: Sequence[Sequence[Line]],
    texts: Sequence[str],
    x: Scale,
    y: Scale,
    area: Box,
    room: float,
) -> Markup:
    ends = [y(group[0].points[-1][1]) for group in groups]
    heights = labels.spread(ends, _HEIGHT, area.top, area.bottom)
    parts = []
    for group, said, end, height in zip(groups, texts, ends, heights, strict=True):
        if height is None:
            continue  # the table under the chart has them all
        edge = x(group[0].points[-1][0])
        style = svg.series_class(group[0].index)
        parts.append(svg.rule(f"lead {style}", edge + 2, end, area.right + 11, height))
        shown = labels.shortened(said, room, _BOLD)
        parts.append(svg.text(f"label start own {style}", area.right + 13, height + 4, shown))
    return Markup("").join(parts)
