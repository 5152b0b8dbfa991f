"""Which charts the page has, made of the rows of one length: what each shows, and of what.

A chart is drawn at two sizes, for wide and narrow windows; the style sheet shows one of them. Its
caption says what it shows, of which length and questions; its description says the same in numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from markupsafe import Markup

from lengthwise.evaluation.metrics.choice import PROBE_TOLERANCE, answer_seconds
from lengthwise.evaluation.metrics.row import CompareRow
from lengthwise.evaluation.reports.columns import full_of, number
from lengthwise.evaluation.reports.svg import ChartFrame
from lengthwise.evaluation.reports.svg_lines import Line, curves
from lengthwise.evaluation.reports.svg_points import Point, scatter

Numbers = Mapping[str, int]

SIZES = {"wide": (486.0, 340.0), "narrow": (332.0, 320.0)}
_NORMAL_95 = 1.96  # standard errors in half an interval of 95%


@dataclass(frozen=True, slots=True)
class Figure:
    """title and said: the caption. wide, narrow: one chart at two sizes. table: its numbers, as
    a head and rows of text, where the page has them nowhere else. hollow: has empty points."""

    title: str
    said: str
    wide: Markup
    narrow: Markup
    table: tuple[Sequence[str], Sequence[tuple[str, Sequence[str]]]] | None = None
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """What the charts of one length share.

    key: unique on the page. of: length and questions in words. length: the length alone, for what
    no question changes. numbers: of the recipes.
    strong: recipes that stand out. full_is_valid: whether full attention is the truth here.
    trained: the model's trained length.
    """

    key: str
    of: str
    length: str
    numbers: Numbers
    strong: frozenset[str]
    full_is_valid: bool
    trained: int | None


@dataclass(frozen=True, slots=True)
class _Quality:
    """What a recipe kept, as one number. name: of the axis. reverse: less is better. ceiling:
    what it cannot exceed."""

    name: str
    said: str
    value: Callable[[CompareRow], float | None]
    interval: Callable[[CompareRow], tuple[float, float] | None]
    reverse: bool
    ceiling: float = math.inf


def trade_off(rows: Sequence[CompareRow], setting: Setting) -> list[Figure]:
    """Quality against bytes held, and against seconds to the answer.

    Args:
        rows: one a recipe, of one length.
        setting: what the charts of that length share.

    Returns:
        Two figures; none where no quality was measured.
    """
    ran = [row for row in rows if row.refused is None]
    quality = _quality(ran, setting.full_is_valid)
    costs: list[tuple[str, str, str, Callable[[CompareRow], float | None]]] = [
        ("memory", "KV bytes held at the end", "KV, MB", _megabytes),
        ("time", "seconds from the question to the whole answer, reading included",
         f"seconds to {_answer_length(ran)}", answer_seconds),
    ]  # fmt: skip
    figures = []
    for name, said, axis, cost in costs:
        points = _points(ran, quality, cost, axis, setting)
        if not points:
            continue
        words = f"{quality.said} against {said}"
        y_axis = f"{quality.name} {'(less is up)' if quality.reverse else '↑'}"
        listed = "; ".join(p.title for p in points)
        wide, narrow = (
            scatter(
                ChartFrame(f"{setting.key}-{name}-{size}", width, height, f"{words}, {setting.of}",
                      listed, f"{axis} →", y_axis, quality.ceiling),
                points, quality.reverse,
            )
            for size, (width, height) in SIZES.items()
        )  # fmt: skip
        title = f"Quality against {name}"
        hollow = any(point.hollow for point in points)
        figures.append(Figure(title, f"{words}, {setting.of}.", wide, narrow, None, hollow))
    return figures


def losses(rows: Sequence[CompareRow], setting: Setting) -> list[Figure]:
    """Loss by position, and how much of it is the recipe's: the loss over that of full.

    Args:
        rows: one a recipe, of one length.
        setting: what the charts of that length share.

    Returns:
        The figures that there is something to draw in.
    """
    ran = [row for row in rows if row.refused is None]
    plain = [(row, curve) for row in ran if (curve := _curve(row))]
    full = full_of(ran)
    over = [(row, curve) for row in ran if (curve := _over_full(row, full))]
    figures = []
    if plain:
        figures.append(_loss_figure(
            plain, setting, "loss", "Loss by position",
            "How well each token of the document is foretold, nats a token. Lower is better.",
            "loss, nats a token"))  # fmt: skip
    if any(row is not full for row, _ in over):
        figures.append(_loss_figure(
            over, setting, "over", "Loss over full attention",
            "The same, less the loss of full attention on the same tokens: below 0 a recipe "
            "foretells better than full, above 0 worse.",
            "loss − loss of full, nats a token", zero=True))  # fmt: skip
    return figures


def _loss_figure(
    curves_: Sequence[tuple[CompareRow, Sequence[_Spot]]], setting: Setting, name: str, title: str,
    said: str, axis: str, zero: bool = False,
) -> Figure:  # fmt: skip
    shorts = short_names([row.recipe for row, _ in curves_])
    lines = [
        Line([(s.x, s.y) for s in curve], setting.numbers[row.recipe], shorts[row.recipe],
             _curve_title(row, curve), [(s.x, s.y - s.half, s.y + s.half) for s in curve if s.half],
             row.recipe in setting.strong)
        for row, curve in curves_
    ]  # fmt: skip
    mark = None
    if setting.trained is not None:
        mark = (float(setting.trained), f"trained for {setting.trained:,}")
    wide, narrow = (
        curves(
            ChartFrame(
                f"{setting.key}-{name}-{size}", width, height, f"{title}, {setting.length}",
                "; ".join(line.title for line in lines), "position, tokens", axis,
            ),
            lines, mark, zero,
        )
        for size, (width, height) in SIZES.items()
    )  # fmt: skip
    said += " Numbers at the ends name the lines; lines in one place share an end."
    count = sum(spot.n or 0 for spot in curves_[0][1])
    if count:
        said += f" Over {count:,} tokens; shaded: 95% of the mean's error."
    return Figure(
        title,
        f"{said} {_capital(setting.length)}, whatever is asked.",
        wide,
        narrow,
        _loss_table(curves_),
    )


def _loss_table(
    curves_: Sequence[tuple[CompareRow, Sequence[_Spot]]],
) -> tuple[Sequence[str], Sequence[tuple[str, Sequence[str]]]]:
    places = sorted({spot.x for _, curve in curves_ for spot in curve})
    rows = []
    for row, curve in curves_:
        by_place = {spot.x: number(spot.y, 3) for spot in curve}
        rows.append((row.recipe, [by_place.get(x, number(None)) for x in places]))
    return [f"{x:,.0f}" for x in places], rows


@dataclass(frozen=True, slots=True)
class _Spot:
    """A point of a curve. half: half of its interval, 0 when unknown. n: tokens, when known."""

    x: float
    y: float
    half: float = 0.0
    n: int | None = None


def _curve(row: CompareRow) -> list[_Spot]:
    if bins := row.loss_bins:
        return [spot for each in bins if (spot := _binned(each, "mean", "error"))]
    return [_Spot(x, y) for x, y in row.loss_by_position or () if _known(y)]


def _over_full(row: CompareRow, full: CompareRow | None) -> list[_Spot]:
    if bins := row.loss_bins:
        found = [spot for each in bins if (spot := _binned(each, "over_full", "over_full_error"))]
        if found or full is None or row is not full:
            return found
        return [_Spot(spot.x, 0.0, 0.0, spot.n) for spot in _curve(full)]
    truth = {x: y for x, y in (full.loss_by_position or ()) if _known(y)} if full else {}
    return [
        _Spot(x, y - truth[x])
        for x, y in row.loss_by_position or ()
        if _known(y) and x in truth
    ]  # fmt: skip


def _binned(each: Mapping[str, Any], value: str, error: str) -> _Spot | None:
    y, wide = each.get(value), each.get(error)
    if y is None or not _known(y):
        return None
    half = _NORMAL_95 * wide if wide is not None and _known(wide) else 0.0
    return _Spot((each["start"] + each["stop"]) // 2, y, half, each.get("n"))


def _curve_title(row: CompareRow, curve: Sequence[_Spot]) -> str:
    last = curve[-1]
    return (
        f"{row.recipe}: mean {number(fmean(s.y for s in curve), 3)} nats, "
        f"{number(last.y, 3)} around token {last.x:,.0f}"
    )


def _points(
    rows: Sequence[CompareRow],
    quality: _Quality,
    cost: Callable[[CompareRow], float | None],
    axis: str,
    setting: Setting,
) -> list[Point]:
    shorts = short_names([row.recipe for row in rows])
    points = []
    for row in rows:
        x, y = cost(row), quality.value(row)
        if x is None or y is None or not (math.isfinite(x) and math.isfinite(y)):
            continue
        low, high = quality.interval(row) or (None, None)
        title = f"{row.recipe}: {axis} {number(x, 1)}, {quality.name} {number(y)}"
        lost = not quality.reverse and _loses_probes(row, full_of(rows))
        if lost:
            title += ", and it loses what was planted"
        points.append(Point(x, y, setting.numbers[row.recipe], shorts[row.recipe], title, low, high,
                            row.recipe in setting.strong, lost))  # fmt: skip
    # Labels of what stands out are placed first.
    return sorted(points, key=lambda p: not p.strong)


def _quality(rows: Sequence[CompareRow], full_is_valid: bool) -> _Quality:
    if full_is_valid and any(_known(row.agreement) for row in rows):
        counts = {n for row in rows if (n := row.fidelity_tokens)}
        over = f" (n = {counts.pop():,}; whiskers: 95%)" if len(counts) == 1 else ""
        said = f"agreement with the next tokens of full attention{over}"
        return _Quality(
            "agreement, %", _capital(said), _agreement, _agreement_interval, False, 100.0
        )
    said = "mean loss of what was planted in the text (words to copy, keys to find)"
    return _Quality("probe loss, nats", _capital(said), _probe_loss, lambda row: None, True)


def _agreement(row: CompareRow) -> float | None:
    return 100 * row.agreement if row.agreement is not None and _known(row.agreement) else None


def _agreement_interval(row: CompareRow) -> tuple[float, float] | None:
    ends = row.agreement_interval
    return (100 * ends[0], 100 * ends[1]) if ends else None


def _probe_loss(row: CompareRow) -> float | None:
    known = [loss for loss in (row.copy_loss, row.needle_loss) if loss is not None]
    return fmean(known) if known else None


def _loses_probes(row: CompareRow, full: CompareRow | None) -> bool:
    """Whether planted words or keys that full attention reads are lost to a recipe."""
    pairs = [(row.copy_loss, full.copy_loss), (row.needle_loss, full.needle_loss)] if full else []
    return any(
        own is not None and truth is not None and not own <= truth + PROBE_TOLERANCE
        for own, truth in pairs
    )


def _megabytes(row: CompareRow) -> float | None:
    return None if row.kv_bytes is None else row.kv_bytes / 1e6


def _answer_length(rows: Sequence[CompareRow]) -> str:
    asked = {n for row in rows if (n := row.max_new_tokens)}
    return f"{asked.pop():,} tokens" if len(asked) == 1 else "the answer"


def short_names(recipes: Sequence[str]) -> dict[str, str]:
    """Method names without their options, where that still tells the recipes apart."""
    bare = {recipe: re.sub(r"\([^()]*\)", "", recipe) for recipe in recipes}
    names = list(bare.values())
    return {
        recipe: (short if names.count(short) == 1 else recipe) for recipe, short in bare.items()
    }


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
