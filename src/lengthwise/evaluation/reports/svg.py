"""What the charts of the page share, as inline SVG: frame, axes, colours and markers.

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

from lengthwise.evaluation.reports.labels import Box

COLOURS = 7
RADIUS = 8.0  # of a marker
TOP, BOTTOM, LEFT, RIGHT = 34.0, 44.0, 44.0, 14.0  # margins around what is drawn


@dataclass(frozen=True, slots=True)
class ChartFrame:
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
class Scale:
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


def chart(frame: ChartFrame, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {w:.0f} {h:.0f}" role="img" aria-labelledby="{key}-t {key}-d" '
        'style="max-width:{most:.0f}px"><title id="{key}-t">{name}</title>'
        '<desc id="{key}-d">{said}</desc>{parts}</svg>'
    ).format(
        w=frame.width, h=frame.height, most=1.35 * frame.width, key=frame.key, name=frame.name,
        said=frame.said, parts=Markup("").join(parts),
    )  # fmt: skip


def axes(frame: ChartFrame, area: Box, x: Scale, y: Scale) -> Markup:
    parts = []
    for value in ticks(y.low, min(y.high, frame.ceiling)):
        at = y(value)
        parts += [rule("grid", area.left, at, area.right, at)]
        parts += [text("tick end", area.left - 6, at + 4, _tick(value))]
    for value in ticks(x.low, x.high, about=5 if frame.width >= 420 else 4):
        at = x(value)
        parts += [rule("axis", at, area.bottom, at, area.bottom + 4)]
        parts += [text("tick", at, area.bottom + 17, _tick(value))]
    parts += [rule("axis", area.left, area.bottom, area.right, area.bottom)]
    parts += [text("title end", frame.width - RIGHT, frame.height - 6, frame.x_title)]
    parts += [text("title start", 2, 12, frame.y_title)]
    return Markup("").join(parts)


def rule(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        kind, x1, y1, x2, y2
    )


def text(kind: str, x: float, y: float, text: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(kind, x, y, text)


def marker(index: int, cx: float, cy: float, radius: float = RADIUS) -> Markup:
    """One of five shapes in turn, where colours are seven: two that share both are 35 apart."""
    corners, turn, scale = SHAPES[index % len(SHAPES)]
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
SHAPES = ((0, 0, 1.0), (4, 45, 1.25), (4, 0, 1.3), (6, 30, 1.12), (5, 0, 1.2))


def padded(values: Sequence[float], ceiling: float = math.inf) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * 0.08 or max(abs(high) * 0.1, 0.1)
    low, high = low - pad, high + pad
    return low, min(high, ceiling + 0.08 * (ceiling - low)) if high > ceiling else high


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two, about so many."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((power * unit for unit in (1, 2, 5, 10)), key=lambda step: abs(step - raw))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _tick(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{round(value, 6):g}"
