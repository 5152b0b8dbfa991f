"""The two charts of the page, as inline SVG strings: points with labels, and lines over position.

Colours come from the page's style sheet by class (`s0`, `s1`, ...), so that light and dark both
work. All text that reaches a chart is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 480, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 22, 44
_COLOURS = 10
_RADIUS = 8.5
_CHARACTER = 6.4  # generous mean advance of a label, in chart units


@dataclass(frozen=True, slots=True)
class Point:
    """x, y: in data units. index: number and colour. label: short. title: in full, as a tooltip."""

    x: float
    y: float
    index: int
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """points: (x, y) in data units. index: colour. title: tooltip. strong: drawn thick, on top."""

    points: Sequence[tuple[float, float]]
    index: int
    title: str
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
    """Style class of a recipe: 0 is the ink of `full`, then ten colours, then those dashed."""
    if index == 0:
        return "s0"
    cycle, colour = divmod(index - 1, _COLOURS)
    return f"s{colour + 1}" + (" dashed" if cycle % 2 else "")


def scatter(points: Sequence[Point], x_title: str, y_title: str, reverse_x: bool = False) -> str:
    """Numbered points, labelled wherever a label fits without touching anything.

    reverse_x: put small x to the right, for losses, so that better is always up and right.
    """
    low, high = _padded([point.x for point in points])
    ends = (WIDTH - _RIGHT, _LEFT) if reverse_x else (_LEFT, WIDTH - _RIGHT)
    x = _Scale(low, high, *ends)
    y = _Scale(0, max(point.y for point in points) * 1.1, HEIGHT - _BOTTOM, _TOP)
    centres = [(x(point.x), y(point.y)) for point in points]
    labels = _place_labels(centres, [point.label for point in points])
    marks = [
        f'<g class="{series_class(point.index)}"><title>{escape(point.title)}</title>'
        f'<circle class="dot" cx="{cx:.1f}" cy="{cy:.1f}" r="{_RADIUS}"/>'
        f'<text class="mark" x="{cx:.1f}" y="{cy + 3.4:.1f}">{point.index + 1}</text></g>'
        for point, (cx, cy) in zip(points, centres, strict=True)
    ]
    name = f"{y_title} against {x_title}"
    return _chart(name, [_axes(x, y, x_title, y_title), *labels, *marks])


def curves(
    lines: Sequence[Line], x_title: str, y_title: str, mark: tuple[float, str] | None = None
) -> str:
    """Lines over position; `mark` is a position to point out, with its label."""
    xs = [px for line in lines for px, _ in line.points]
    ys = [py for line in lines for _, py in line.points]
    x = _Scale(0, max(xs) * 1.02, _LEFT, WIDTH - _RIGHT)
    y = _Scale(*_padded(ys), HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(x, y, x_title, y_title)]
    if mark is not None and x.low <= mark[0] <= x.high:
        at = x(mark[0])
        side = "end" if at > WIDTH / 2 else "start"
        parts.append(
            f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
            f'<text class="note {side}" x="{at + (-5 if side == "end" else 5):.1f}" '
            f'y="{_TOP + 10}">{escape(mark[1])}</text>'
        )
    for line in sorted(lines, key=lambda line: line.strong):
        path = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in line.points)
        strong = " strong" if line.strong else ""
        parts.append(
            f'<g class="{series_class(line.index)}"><title>{escape(line.title)}</title>'
            f'<polyline class="line{strong}" points="{path}"/></g>'
        )
    return _chart(f"{y_title} against {x_title}", parts)


def _chart(name: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">'
        + "".join(parts)
        + "</svg>"
    )


def _axes(x: _Scale, y: _Scale, x_title: str, y_title: str) -> str:
    floor = HEIGHT - _BOTTOM
    parts = []
    for value in _ticks(y.low, y.high):
        at = y(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="tick end" x="{_LEFT - 6}" y="{at + 4:.1f}">{_tick(value)}</text>'
        )
    for value in _ticks(x.low, x.high):
        at = x(value)
        parts.append(
            f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{floor}" y2="{floor + 4}"/>'
            f'<text class="tick" x="{at:.1f}" y="{floor + 17}">{_tick(value)}</text>'
        )
    parts.append(
        f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{floor}" y2="{floor}"/>'
        f'<text class="title end" x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}">{escape(x_title)}</text>'
        f'<text class="title start" x="4" y="12">{escape(y_title)}</text>'
    )
    return "".join(parts)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * 0.08 or max(abs(high) * 0.1, 0.1)
    return low - pad, high + pad


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((power * unit for unit in (1, 2, 5, 10)), key=lambda step: abs(step - raw))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _tick(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{round(value, 6):g}"


Box = tuple[float, float, float, float]


def _place_labels(centres: Sequence[tuple[float, float]], labels: Sequence[str]) -> list[str]:
    """A label beside each point where it touches no other; the others keep only their number."""
    taken: list[Box] = [
        (cx - _RADIUS, cy - _RADIUS, cx + _RADIUS, cy + _RADIUS) for cx, cy in centres
    ]
    placed = []
    gap = _RADIUS + 4
    for (cx, cy), label in zip(centres, labels, strict=True):
        width = len(label) * _CHARACTER
        for anchor, at, base in (
            ("start", cx + gap, cy + 4),
            ("end", cx - gap, cy + 4),
            ("", cx, cy - gap),
            ("", cx, cy + gap + 8),
            ("end", cx + _RADIUS, cy - gap),
            ("end", cx + _RADIUS, cy + gap + 8),
            ("start", cx - _RADIUS, cy - gap),
            ("start", cx - _RADIUS, cy + gap + 8),
        ):
            left = at if anchor == "start" else at - width if anchor == "end" else at - width / 2
            spot = (left, base - 10, left + width, base + 2)
            inside = left > _LEFT and left + width < WIDTH and _TOP - 8 < base < HEIGHT - _BOTTOM
            if inside and not any(_touch(spot, other) for other in taken):
                taken.append(spot)
                start = f'<text class="label {anchor}" x="{at:.1f}" y="{base:.1f}">'
                placed.append(f"{start}{escape(label)}</text>")
                break
    return placed


def _touch(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
