"""A chart of points, each with its number and, where there is room, its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lengthwise.evaluation.reports import labels
from lengthwise.evaluation.reports.labels import Box
from lengthwise.evaluation.reports.svg import (
    BOTTOM,
    LEFT,
    RADIUS,
    RIGHT,
    TOP,
    ChartFrame,
    Scale,
    axes,
    chart,
    marker,
    padded,
    rule,
    series_class,
    text,
)


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


def scatter(frame: ChartFrame, points: Sequence[Point], reverse_y: bool = False) -> Markup:
    """Points that are each labelled, with a step line through those that no other beats.

    Left is better, and up. reverse_y: small y is up, for losses. Points at one place stand side by
    side. There has to be a point.
    """
    area = Box(LEFT, TOP, frame.width - RIGHT, frame.height - BOTTOM)
    ends = [y for p in points for y in (p.y, p.low, p.high) if y is not None]
    x = Scale(0, max(p.x for p in points) * 1.06 or 1.0, area.left, area.right)
    bottom, top = (area.top, area.bottom) if reverse_y else (area.bottom, area.top)
    y = Scale(*padded(ends, frame.ceiling), bottom, top)
    places = labels.apart([(x(p.x), y(p.y)) for p in points], 2.2 * RADIUS, area)
    # The number stands in the marker; where the name fits nowhere, the table has it.
    texts = [(labels.shortened(p.label, 0.42 * frame.width),) for p in points]
    room = Box(area.left + 2, area.top - 8, frame.width - 2, area.bottom - 1)
    put = labels.place(places, texts, room, [_reach(p) for p in points], [_corner(area)])
    parts = [axes(frame, area, x, y), _front(points, x, y, area, reverse_y), _better(area)]
    parts += [_label(label) for label in put if label is not None]
    parts += [_point(p, place, y) for p, place in zip(points, places, strict=True)]
    return chart(frame, parts)


_BETTER = "↖ better"


def _corner(area: Box) -> Box:
    """What the word in the corner covers."""
    wide = labels.text_width(_BETTER)
    return Box(area.left + 5, area.top - 16, area.left + 5 + wide, area.top - 2)


def _better(area: Box) -> Markup:
    return text("corner start", area.left + 5, area.top - 5, _BETTER)


def _front(points: Sequence[Point], x: Scale, y: Scale, area: Box, reverse_y: bool) -> Markup:
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
        lead = rule("lead", *label.lead, near, middle)
    return lead + text(f"label {label.anchor}", label.x, label.y, label.text)


def _reach(point: Point) -> float:
    """Radius of what is drawn at a point: marker, and ring where it has one."""
    return RADIUS + 4 if point.strong else RADIUS + 1


def _point(point: Point, place: tuple[float, float], y: Scale) -> Markup:
    whisker = Markup("")
    if point.low is not None and point.high is not None:
        whisker = rule("whisker", place[0], y(point.low), place[0], y(point.high))
    ring = Markup("")
    if point.strong:
        ring = Markup('<circle class="ring" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(
            *place, RADIUS + 3
        )
    style = series_class(point.index) + (" hollow" if point.hollow else "")
    number = text("number", place[0], place[1] + 3.2, f"{point.index + 1}")
    return Markup('<g class="{}"><title>{}</title>{}{}{}{}</g>').format(
        style, point.title, whisker, ring, marker(point.index, *place), number
    )
