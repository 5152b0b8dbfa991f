"""The charts of the page as inline SVG: points with labels, and lines over position.

A chart is drawn once for each width it is shown at, so that its text always has the size it was
placed for. Colours come from the page's style sheet by class (`s0`, `s1`, ...), so that light and
dark both work; a recipe is told by its number, its marker and its colour. All text that reaches a
chart is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lengthwise.measure import labels
from lengthwise.measure.labels import Box

COLOURS = 7
RADIUS = 8.0
_TOP, _BOTTOM, _LEFT, _RIGHT = 34.0, 44.0, 44.0, 14.0
_BOLD = 1.12 * labels.SIZE  # bold text is as wide as plain text of this size
_LINE = 13.0  # height of a label at the end of a line
_SAME = 0.6  # lines that are nowhere further apart than this, in chart units, are drawn as one


@dataclass(frozen=True, slots=True)
class Frame:
    """What the axes of a chart say, and its size in pixels at which its text is as meant.

    key: unique on the page, for the ids of title and description. name: what it shows, in a
    sentence. said: the same in numbers, for who cannot see it.
    """

    key: str
    width: float
    height: float
    name: str
    said: str
    x_title: str
    y_title: str
    ceiling: float = math.inf  # of y: what no value can exceed


@dataclass(frozen=True, slots=True)
class Point:
    """x, y: in data units. index: number and colour. label: short. title: in full, as a tooltip.

    low, high: an interval of y, drawn as a whisker. strong: drawn with a ring. hollow: drawn empty,
    and no step of the line of those that no other beats.
    """

    x: float
    y: float
    index: int
    label: str
    title: str
    low: float | None = None
    high: float | None = None
    strong: bool = False
    hollow: bool = False


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


@dataclass(frozen=True, slots=True)
class _Scale:
    """Data units to chart units along one axis; `start` and `end` are the chart units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def series_class(index: int) -> str:
    """Style class of a recipe: 0 is the ink of `full`, then colours in turn; lines that have a
    colour for the second or third time are dashed or dotted."""
    if index == 0:
        return "s0"
    cycle, colour = divmod(index - 1, COLOURS)
    return f"s{colour + 1}" + ("", " dashed", " dotted")[cycle % 3]


def scatter(frame: Frame, points: Sequence[Point], reverse_y: bool = False) -> Markup:
    """Points that are each labelled, with a step line through those that no other beats.

    Left is better, and up. reverse_y: small y is up, for losses. Points at one place stand side by
    side. There has to be a point.
    """
    area = Box(_LEFT, _TOP, frame.width - _RIGHT, frame.height - _BOTTOM)
    ends = [y for p in points for y in (p.y, p.low, p.high) if y is not None]
    x = _Scale(0, max(p.x for p in points) * 1.06 or 1.0, area.left, area.right)
    bottom, top = (area.top, area.bottom) if reverse_y else (area.bottom, area.top)
    y = _Scale(*_padded(ends, frame.ceiling), bottom, top)
    places = labels.apart([(x(p.x), y(p.y)) for p in points], 2.2 * RADIUS, area)
    # The number stands in the marker; where the name fits nowhere, the table has it.
    texts = [(labels.shortened(p.label, 0.42 * frame.width),) for p in points]
    room = Box(area.left + 2, area.top - 8, frame.width - 2, area.bottom - 1)
    put = labels.place(places, texts, room, [_reach(p) for p in points], [_corner(area)])
    parts = [_axes(frame, area, x, y), _front(points, x, y, area, reverse_y), _better(area)]
    parts += [_label(label) for label in put if label is not None]
    parts += [_point(p, place, y) for p, place in zip(points, places, strict=True)]
    return _chart(frame, parts)


def curves(
    frame: Frame,
    lines: Sequence[Line],
    mark: tuple[float, str] | None = None,
    zero: bool = False,
) -> Markup:
    """Lines over position, each named at its end; those that lie on one another share a label.

    mark: a position to point out, with its label. zero: show where y is 0. There has to be a line
    with a point.
    """
    wide = frame.width >= 420
    area = Box(_LEFT, _TOP, frame.width - (118 if wide else 40), frame.height - _BOTTOM)
    ys = [py for line in lines for _, py in line.points]
    ys += [y for line in lines for _, *ends in line.band for y in ends]
    x = _Scale(0, max(px for line in lines for px, _ in line.points) or 1.0, area.left, area.right)
    y = _Scale(*_padded([*ys, 0.0] if zero else ys), area.bottom, area.top)
    parts = [_axes(frame, area, x, y)]
    if zero:
        parts.append(_rule("zero", area.left, y(0), area.right, y(0)))
    if mark is not None and x.low <= mark[0] <= x.high:
        parts.append(_limit(x(mark[0]), mark[1], area))
    groups = _same(lines, x, y)
    drawn = sorted(groups, key=lambda group: any(line.strong for line in group))
    parts += [_line(group, x, y) for group in drawn]
    parts.append(_end_labels(groups, x, y, area, frame.width, wide))
    return _chart(frame, parts)


def _chart(frame: Frame, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {w:.0f} {h:.0f}" role="img" aria-labelledby="{key}-t {key}-d" '
        'style="max-width:{most:.0f}px"><title id="{key}-t">{name}</title>'
        '<desc id="{key}-d">{said}</desc>{parts}</svg>'
    ).format(
        w=frame.width, h=frame.height, most=1.35 * frame.width, key=frame.key, name=frame.name,
        said=frame.said, parts=Markup("").join(parts),
    )  # fmt: skip


def _axes(frame: Frame, area: Box, x: _Scale, y: _Scale) -> Markup:
    parts = []
    for value in _ticks(y.low, min(y.high, frame.ceiling)):
        at = y(value)
        parts += [_rule("grid", area.left, at, area.right, at)]
        parts += [_text("tick end", area.left - 6, at + 4, _tick(value))]
    for value in _ticks(x.low, x.high, about=5 if frame.width >= 420 else 4):
        at = x(value)
        parts += [_rule("axis", at, area.bottom, at, area.bottom + 4)]
        parts += [_text("tick", at, area.bottom + 17, _tick(value))]
    parts += [_rule("axis", area.left, area.bottom, area.right, area.bottom)]
    parts += [_text("title end", frame.width - _RIGHT, frame.height - 6, frame.x_title)]
    parts += [_text("title start", 2, 12, frame.y_title)]
    return Markup("").join(parts)


def _rule(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        kind, x1, y1, x2, y2
    )


def _text(kind: str, x: float, y: float, text: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(kind, x, y, text)


_BETTER = "↖ better"


def _corner(area: Box) -> Box:
    """What the word in the corner covers."""
    wide = labels.text_width(_BETTER)
    return Box(area.left + 5, area.top - 16, area.left + 5 + wide, area.top - 2)


def _better(area: Box) -> Markup:
    return _text("corner start", area.left + 5, area.top - 5, _BETTER)


def _limit(at: float, said: str, area: Box) -> Markup:
    right = at > (area.left + area.right) / 2
    note = _text(f"note {'end' if right else 'start'}", at + (-5 if right else 5), area.top - 6,
                 said)  # fmt: skip
    return _rule("limit", at, area.top - 4, at, area.bottom) + note


def _front(points: Sequence[Point], x: _Scale, y: _Scale, area: Box, reverse_y: bool) -> Markup:
    """A step line through the points that no other beats in both: ever better, ever dearer."""
    best: list[Point] = []
    sign = -1 if reverse_y else 1
    solid = [point for point in points if not point.hollow]
    for point in sorted(solid, key=lambda p: (p.x, -sign * p.y)):
        if not best or sign * point.y > sign * best[-1].y:
            best.append(point)
    if len(best) < 2:
        return Markup("")
    path = [f"M{x(best[0].x):.1f},{y(best[0].y):.1f}"]
    path += [f"H{x(p.x):.1f}V{y(p.y):.1f}" for p in best[1:]]
    return Markup('<path class="frontier" d="{}"/>').format("".join(path))


def _label(label: labels.Label) -> Markup:
    lead = Markup("")
    if label.lead is not None:
        near = min(max(label.lead[0], label.box.left), label.box.right)
        middle = (label.box.top + label.box.bottom) / 2
        lead = _rule("lead", *label.lead, near, middle)
    return lead + _text(f"label {label.anchor}", label.x, label.y, label.text)


def _reach(point: Point) -> float:
    """Radius of what is drawn at a point: marker, and ring where it has one."""
    return RADIUS + 4 if point.strong else RADIUS + 1


def _point(point: Point, place: tuple[float, float], y: _Scale) -> Markup:
    whisker = Markup("")
    if point.low is not None and point.high is not None:
        whisker = _rule("whisker", place[0], y(point.low), place[0], y(point.high))
    ring = Markup("")
    if point.strong:
        ring = Markup('<circle class="ring" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(
            *place, RADIUS + 3
        )
    style = series_class(point.index) + (" hollow" if point.hollow else "")
    number = _text("number", place[0], place[1] + 3.2, f"{point.index + 1}")
    return Markup('<g class="{}"><title>{}</title>{}{}{}{}</g>').format(
        style, point.title, whisker, ring, _marker(point.index, *place), number
    )


def _marker(index: int, cx: float, cy: float, radius: float = RADIUS) -> Markup:
    """One of five shapes in turn, where colours are seven: two that share both are 35 apart."""
    corners, turn, scale = _SHAPES[index % len(_SHAPES)]
    if not corners:
        return Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="{:g}"/>').format(
            cx, cy, radius
        )
    angles = [2 * math.pi * i / corners + math.radians(turn) for i in range(corners)]
    reach = radius * scale
    path = " ".join(
        f"{cx + reach * math.sin(a):.1f},{cy - reach * math.cos(a):.1f}" for a in angles
    )
    return Markup('<polygon class="dot" points="{}"/>').format(path)


# Corners (none: a circle), turn in degrees, and how far they reach so that all look equally large.
_SHAPES = ((0, 0, 1.0), (4, 45, 1.25), (4, 0, 1.3), (6, 30, 1.12), (5, 0, 1.2))


def _same(lines: Sequence[Line], x: _Scale, y: _Scale) -> list[list[Line]]:
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


def _one_place(a: Line, b: Line, y: _Scale) -> bool:
    return [p[0] for p in a.points] == [p[0] for p in b.points] and all(
        abs(y(p[1]) - y(q[1])) < _SAME for p, q in zip(a.points, b.points, strict=True)
    )


def _band(line: Line, x: _Scale, y: _Scale) -> Markup:
    if not line.band:
        return Markup("")
    there = [f"{x(at):.1f},{y(high):.1f}" for at, _, high in line.band]
    back = [f"{x(at):.1f},{y(low):.1f}" for at, low, _ in reversed(line.band)]
    return Markup('<polygon class="band" points="{}"/>').format(" ".join(there + back))


def _line(group: Sequence[Line], x: _Scale, y: _Scale) -> Markup:
    first = next((line for line in group if line.strong), group[0])
    path = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in first.points)
    marks = [_marker(first.index, x(px), y(py), 3) for px, py in _every(first, x)]
    return Markup(
        '<g class="series {}{}"><title>{}</title>{}<polyline class="line{}" points="{}"/>{}</g>'
    ).format(
        series_class(first.index), " main" if first.strong else "",
        "; ".join(line.title for line in group), _band(first, x, y),
        " strong" if first.strong else "", path, Markup("").join(marks),
    )  # fmt: skip


def _every(line: Line, x: _Scale) -> list[tuple[float, float]]:
    """Points that get a marker: at most one in 40 chart units, each recipe's at its own phase."""
    if len(line.points) < 2:
        return list(line.points)
    pitch = (x(line.points[-1][0]) - x(line.points[0][0])) / (len(line.points) - 1)
    step = max(1, math.ceil(40 / max(pitch, 1e-6)))
    return list(line.points[line.index % step :: step])


def _end_labels(
    groups: Sequence[Sequence[Line]], x: _Scale, y: _Scale, area: Box, width: float, wide: bool
) -> Markup:
    ends = [y(group[0].points[-1][1]) for group in groups]
    heights = labels.spread(ends, _LINE, area.top, area.bottom)
    room = width - area.right - 16
    parts = []
    for group, end, height in zip(groups, ends, heights, strict=True):
        if height is None:
            continue  # the legend has them all
        numbers = " ".join(f"{line.index + 1}" for line in group)
        text = f"{numbers} {group[0].label}" if wide and len(group) == 1 else numbers
        edge = x(group[0].points[-1][0])
        style = series_class(group[0].index)
        parts.append(_rule(f"lead {style}", edge + 2, end, area.right + 11, height))
        text = labels.shortened(text, room, _BOLD)
        parts.append(_text(f"label start own {style}", area.right + 13, height + 4, text))
    return Markup("").join(parts)


def _padded(values: Sequence[float], ceiling: float = math.inf) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * 0.08 or max(abs(high) * 0.1, 0.1)
    low, high = low - pad, high + pad
    return low, min(high, ceiling + 0.08 * (ceiling - low)) if high > ceiling else high


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((power * unit for unit in (1, 2, 5, 10)), key=lambda step: abs(step - raw))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _tick(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{round(value, 6):g}"
