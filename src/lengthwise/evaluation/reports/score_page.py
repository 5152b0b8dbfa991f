"""A run as one page: scores with intervals, lines over length, heat maps, why it is hard, costs.

The page and its style are `templates/scores.html` and `templates/scores.css`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence as Seq
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lengthwise._utils.outputs import MARK
from lengthwise._utils.plural import many
from lengthwise.evaluation.metrics.differences import by_question, mean_of
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.ruler import over_lengths
from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.metrics.scores import (
    Score,
    at_every_length,
    costs_of,
    recipes_in,
    refusals_of,
    scores_of,
)
from lengthwise.evaluation.reports.charts import SIZES, Figure
from lengthwise.evaluation.reports.pages import clean, environment, numbered
from lengthwise.evaluation.reports.score_table import (
    LEGEND,
    ruler_said,
    samples_said,
    uneven_said,
)
from lengthwise.evaluation.reports.svg import ChartFrame
from lengthwise.evaluation.reports.svg_lines import Line, curves
from lengthwise.evaluation.scorers.aggregates import RULER_THRESHOLD
from lengthwise.evaluation.tasks.benchmark import Difficulty

# Places are put together in fifths where no depth was asked for.
_FIFTHS = 5


@dataclass(frozen=True, slots=True)
class _Cell:
    """text: the value. small: its interval. kind: "less" or "more" than full. said: a tooltip."""

    text: str
    small: str = ""
    kind: str = ""
    said: str = ""


def score_page(
    rows: Seq[SampleRow],
    title: str,
    difficulties: Mapping[str, Difficulty],
    facts: Seq[tuple[str, str]] = (),
    origin: Origin | None = None,
    notes: Seq[str] = (),
    threshold: float = RULER_THRESHOLD,
) -> str:
    """The page of a run.

    Args:
        rows: of it, maybe none.
        title: of the page.
        difficulties: of its tasks, by their text.
        facts: names and texts at the top.
        origin: machine, versions and command.
        notes: what was left out.
        threshold: that RULER's scores exceed up to the effective length.

    Returns:
        HTML that loads nothing from anywhere.
    """
    numbers = numbered(row.recipe for row in rows)
    across, maps = _maps(rows)
    tables = [
        _table("Score by task", rows, lambda row: row.task),
        _by_length(rows),
        *_ruler(rows, threshold),
        _costs(rows),
    ]  # fmt: skip
    text = (
        environment(numbers)
        .get_template("scores.html")
        .render(
            title=title, mark=MARK, tables=tables if rows else [], across=across, maps=maps,
            facts=[*facts, *(origin.lines()[:1] if origin is not None else [])],
            lengths=[f"{length:,}" for length in _lengths(rows)],
            maps_said=_maps_said(across), lines=_lines(rows, numbers), notes=notes,
            plane=_plane(rows, difficulties), refused=refusals_of(rows),
            origin=origin.lines()[1:] if origin is not None else [],
        )
    )  # fmt: skip
    return clean(text)


def _lengths(rows: Seq[SampleRow]) -> list[int]:
    return sorted({row.length for row in rows})


def _by_length(rows: Seq[SampleRow]) -> Mapping[str, Any]:
    """Scores by length over the tasks that were asked at each; the others are named."""
    some, others = at_every_length(rows)
    table = _table("Score by length", some, lambda row: f"{row.length:,} tokens")
    return {**table, "said": f"{uneven_said(others)} {LEGEND}"} if others else table


def _table(title: str, rows: Seq[SampleRow], of: Callable[[SampleRow], str]) -> Mapping[str, Any]:
    """Scores of every recipe by what `of` says of a row, and over all."""
    groups: dict[str, list[SampleRow]] = {}
    for row in sorted(rows, key=lambda each: each.length):
        groups.setdefault(of(row), []).append(row)
    if len(groups) > 1:
        groups["all"] = list(rows)
    heads = [(name, samples_said(mine)) for name, mine in groups.items()]
    columns = [{score.recipe: score for score in scores_of(mine)} for mine in groups.values()]
    lines = [
        (recipe, [_cell(scores.get(recipe)) for scores in columns]) for recipe in recipes_in(rows)
    ]
    return {"title": title, "heads": heads, "rows": lines, "said": LEGEND}


def _cell(score: Score | None) -> _Cell:
    if score is None or score.mean is None:
        return _Cell("refused" if score is not None and score.refused else "–")
    mean, against = score.mean, score.against
    kind, said = "less" if score.loses else "more" if score.wins else "", ""
    if against is not None:
        said = (
            f"{against.value:+.3f} against full [{against.low:+.3f} {against.high:+.3f}], "
            f"p = {against.p:.3g} over {many(against.n, 'question')}"
        )
    sign = {"less": " −", "more": " +"}.get(kind, "")
    return _Cell(f"{mean.value:.2f}{sign}", f"{mean.low:.2f} to {mean.high:.2f}", kind, said)


def _ruler(rows: Seq[SampleRow], threshold: float) -> list[Mapping[str, Any]]:
    """RULER's means over lengths, where the run has any."""
    found = over_lengths(rows, threshold)
    if not found:
        return []
    heads = [(f"{length:,} tokens", "") for length in found[0].scores]
    heads += [("Avg", ""), ("wAvg (inc)", ""), ("wAvg (dec)", ""), ("effective length", "tokens")]
    lines = []
    for each in found:
        values = [*each.scores.values(), each.mean, each.rising, each.falling]
        cells = [_Cell("–" if value is None else f"{value:.3f}") for value in values]
        lines.append((each.recipe, [*cells, _Cell(each.effective_text)]))
    return [{"title": "RULER by length", "heads": heads, "rows": lines, "said": ruler_said(found)}]


def _costs(rows: Seq[SampleRow]) -> Mapping[str, Any]:
    heads = [
        ("tokens read", "mean"), ("first token", "s, median"), ("tokens/s", "median"),
        ("KV", "MB, mean"), ("cut", "samples"), ("beyond trained", "samples"),
    ]  # fmt: skip

    def text(value: float | None, form: str) -> _Cell:
        return _Cell("–" if value is None else format(value, form))

    lines = [
        (each.recipe, [
            text(each.tokens_read, ",.0f"), text(each.ttft_s, ".2f"),
            text(each.tokens_per_s, ".1f"),
            text(None if each.kv_bytes is None else each.kv_bytes / 1e6, ".1f"),
            text(each.cut, ","), text(each.over, ","),
        ])
        for each in costs_of(rows)
    ]  # fmt: skip
    said = (
        "Tokens read: the prompt and what was read to write it. Cut: samples that had more than "
        "fit. Beyond trained: prompts longer than the model was trained to read."
    )
    return {"title": "Cost", "heads": heads, "rows": lines, "said": said}


def _lines(rows: Seq[SampleRow], numbers: Mapping[str, int]) -> list[Figure]:
    """Score by length with bands: of all tasks, and of each."""
    if len(_lengths(rows)) < 2:
        return []
    tasks = list(dict.fromkeys(row.task for row in rows))
    some, others = at_every_length(rows)
    name = "Tasks asked at every length" if others else "All tasks"
    groups = [(name, some)] * (len(tasks) > 1 and bool(some))
    groups += [(task, [row for row in rows if row.task == task]) for task in tasks]
    return [_figure(n, name, mine, numbers) for n, (name, mine) in enumerate(groups)]


def _figure(key: int, name: str, rows: Seq[SampleRow], numbers: Mapping[str, int]) -> Figure:
    lines, table = [], []
    lengths = _lengths(rows)
    for recipe in recipes_in(rows):
        spots = []
        for length in lengths:
            values = _values(rows, lambda r, at=length: r.length == at, recipe)  # type: ignore[misc]
            if values:
                spots.append((length, mean_of(values)))
        if spots:
            said = ", ".join(f"{mean.value:.2f} at {length:,}" for length, mean in spots)
            lines.append(
                Line(
                    [(length, mean.value) for length, mean in spots], numbers[recipe], recipe,
                    f"{recipe}: {said}", [(at, mean.low, mean.high) for at, mean in spots],
                    recipe == "full",
                )
            )  # fmt: skip
        by_length = dict(spots)
        table.append(
            (recipe, [f"{by_length[at].value:.2f}" if at in by_length else "–" for at in lengths])
        )
    said = "; ".join(line.title for line in lines)
    wide, narrow = (
        curves(ChartFrame(f"lines{key}-{size}", width, height, f"{name}: score by length", said,
                          "tokens", "score", 1.0), lines)
        for size, (width, height) in SIZES.items()
    )  # fmt: skip
    caption = "Mean score; shaded: its 95% interval (of full, and of a line that is pointed at)."
    return Figure(name, caption, wide, narrow, ([f"{at:,}" for at in lengths], table))


def _values(rows: Seq[SampleRow], where: Callable[[SampleRow], bool], recipe: str) -> list[float]:
    """Scores by question."""
    return by_question(
        (r.unit, r.score) for r in rows if r.recipe == recipe and r.score is not None and where(r)
    )


def _maps(rows: Seq[SampleRow]) -> tuple[str, list[tuple[str, Any]]]:
    """Heat maps of length by depth, or by task where no answer has a place; each recipe's rows."""
    placed, _ = at_every_length([row for row in rows if _depth(row) is not None])
    if placed:
        across, of, some = "depth", _depth_text, placed
        heads = list(dict.fromkeys(of(row) for row in sorted(placed, key=lambda r: _depth(r) or 0)))
    else:
        across, of, some = "task", lambda row: row.task, list(rows)
        heads = list(dict.fromkeys(row.task for row in rows))
    lengths = _lengths(rows)
    if len(heads) * len(lengths) < 2:
        return across, []
    found = []
    for recipe in recipes_in(some):
        cells: dict[tuple[str, int], list[float]] = {}
        for row in some:
            if row.recipe == recipe and row.score is not None:
                cells.setdefault((of(row), row.length), []).append(row.score)
        lines = [
            (head, [
                (fmean(got), len(got)) if (got := cells.get((head, at))) else (None, 0)
                for at in lengths
            ])
            for head in heads
        ]  # fmt: skip
        found.append((recipe, lines))
    return across, found


def _depth(row: SampleRow) -> float | None:
    if row.depth is not None:
        return row.depth if row.place is not None else None
    return None if row.place is None else (min(int(row.place * _FIFTHS), 4) + 0.5) / _FIFTHS


def _depth_text(row: SampleRow) -> str:
    at = _depth(row) or 0.0
    if row.depth is not None:
        return f"{at:.0%}"
    return f"{at - 0.5 / _FIFTHS:.0%} to {at + 0.5 / _FIFTHS:.0%}"


def _maps_said(across: str) -> str:
    if across == "task":
        return "No task whose answers have a place in the text was asked at every length."
    return (
        "Depth: where in the text the answer stands, over all tasks in which it has a place and "
        "that were asked at every length."
    )


def _plane(rows: Seq[SampleRow], difficulties: Mapping[str, Difficulty]) -> list[Mapping[str, Any]]:
    """The four kinds of difficulty, each with its tasks and a bar a recipe."""
    found: list[Mapping[str, Any]] = []
    for diffusion in ("low", "high"):
        for scope in ("low", "high"):
            tasks = [
                name for name, each in difficulties.items()
                if (each.diffusion, each.scope) == (diffusion, scope)
            ]  # fmt: skip
            bars = []
            for recipe in recipes_in(rows):
                values = _values(rows, lambda row, of=tasks: row.task in of, recipe)  # type: ignore[misc]
                if values:
                    bars.append((recipe, fmean(values)))
            found.append({"diffusion": diffusion, "scope": scope, "tasks": tasks, "bars": bars})
    return found if any(quarter["bars"] for quarter in found) else []


__all__ = ["score_page"]
