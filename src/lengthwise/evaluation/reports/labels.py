"""Where the labels of a chart go: beside their marks, touching nothing, with a line where far.

All units are those of the chart. Nothing here knows of SVG or of recipes.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

SIZE = 11.0  # font size of a label
_NARROW, _WIDE = 0.6, 1.05  # generous advances of a character, in font sizes
_ABOVE, _BELOW = 0.82, 0.24  # of a line of text around its base line, in font sizes
_RINGS, _DIRECTIONS, _STEP = 5, 16, 9.0
_PUSHES = 200
_NEAR = 1  # rings that need no line from mark to label

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Box:
    """left, top, right, bottom in chart units; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def touches(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def inside(self, other: Box) -> bool:
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True, slots=True)
class Label:
    """text at (x, y), the end of its base line that `anchor` names.

    box: what it covers. lead: the mark it belongs to, when a line to it has to be drawn.
    """

    text: str
    x: float
    y: float
    anchor: Anchor
    box: Box
    lead: tuple[float, float] | None = None


def text_width(text: str, size: float = SIZE) -> float:
    """Width of `text` in chart units, never too small for a common font."""
    return size * sum(_advance(character) for character in text)


def _advance(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    return _WIDE if unicodedata.east_asian_width(character) in "WF" else _NARROW


def shortened(text: str, width: float, size: float = SIZE) -> str:
    """`text`, cut with an ellipsis where it is wider than `width`."""
    if text_width(text, size) <= width:
        return text
    kept = text
    while kept and text_width(kept + "…", size) > width:
        kept = kept[:-1]
    return kept.rstrip(" +(,=") + "…"


def place(
    marks: Sequence[tuple[float, float]],
    texts: Sequence[Sequence[str]],
    area: Box,
    radii: Sequence[float],
    taken: Sequence[Box] = (),
) -> list[Label | None]:
    """A label for each mark that touches no mark and no other label.

    Args:
        marks: centres.
        texts: what may be written at each mark, the best first. A shorter one is taken where the
            longer fits nowhere.
        area: where labels may stand.
        radii: of the marks.
        taken: where something stands already.

    Returns:
        A label a mark; None where not even the last text fits.
    """
    taken = [*taken]
    taken += [Box(x - r, y - r, x + r, y + r) for (x, y), r in zip(marks, radii, strict=True)]
    placed: list[Label | None] = []
    for mark, options, radius in zip(marks, texts, radii, strict=True):
        label = next(
            (found for text in options if (found := _fit(mark, text, area, radius, taken))), None
        )
        if label is not None:
            taken.append(label.box)
        placed.append(label)
    return placed


def _fit(
    mark: tuple[float, float], text: str, area: Box, radius: float, taken: Sequence[Box]
) -> Label | None:
    for label in _candidates(mark, text, radius):
        if label.box.inside(area) and not any(label.box.touches(other) for other in taken):
            return label
    return None


def _candidates(mark: tuple[float, float], text: str, radius: float) -> Iterator[Label]:
    """Places for a label, nearest first: to the right, the left, above, below, and between."""
    width = text_width(text)
    turns = sorted(
        (2 * math.pi * i / _DIRECTIONS for i in range(_DIRECTIONS)),
        key=lambda turn: (round(abs(math.sin(turn)), 3), math.cos(turn) < 0),
    )
    for ring in range(_RINGS):
        reach = radius + 3 + ring * _STEP
        for turn in turns:
            dx, dy = reach * math.cos(turn), reach * math.sin(turn)
            anchor: Anchor = "middle"
            if dx > 0.3 * reach:
                anchor = "start"
            elif dx < -0.3 * reach:
                anchor = "end"
            x = mark[0] + dx
            # A label above stands on its base line, one below hangs under it.
            y = mark[1] + dy + SIZE * (0.3 + 0.45 * math.sin(turn))
            left = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
            box = Box(left, y - _ABOVE * SIZE, left + width, y + _BELOW * SIZE)
            yield Label(text, x, y, anchor, box, mark if ring >= _NEAR else None)


def apart(
    centres: Sequence[tuple[float, float]], nearest: float, area: Box
) -> list[tuple[float, float]]:
    """The centres, those closer together than `nearest` pushed aside, no further than it takes.

    Heights stay; a crowd that fills the whole width is left as it is.
    """
    moved = list(centres)
    for _ in range(_PUSHES):
        clear = True
        for i, j in combinations(range(len(moved)), 2):
            need = _overlap(moved[i], moved[j], nearest)
            if need <= 1e-3:
                continue
            clear = False
            step = need / 2 if moved[i][0] <= moved[j][0] else -need / 2
            moved[i] = _within(area, moved[i][0] - step, moved[i][1])
            moved[j] = _within(area, moved[j][0] + step, moved[j][1])
        if clear:
            break
    return moved


def _overlap(a: tuple[float, float], b: tuple[float, float], nearest: float) -> float:
    """How much wider apart two centres have to stand."""
    height = abs(a[1] - b[1])
    if height >= nearest:
        return 0.0
    return math.sqrt(nearest**2 - height**2) - abs(a[0] - b[0])


def _within(area: Box, x: float, y: float) -> tuple[float, float]:
    return min(max(x, area.left), area.right), y


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float | None]:
    """Heights at least `gap` apart between low and high, in the order given by `heights`.

    As many as fit are kept; the others, last in order of the sequence, are None.
    """
    room = max(0, int((high - low) / gap) + 1)
    kept = sorted(range(min(room, len(heights))), key=lambda i: (heights[i], i))
    found: list[float | None] = [None] * len(heights)
    below = low - gap
    for i in kept:
        below = max(heights[i], below + gap)
        found[i] = below
    above = high + gap
    for i in reversed(kept):
        above = min(found[i] or 0.0, above - gap)
        found[i] = above
    return found
