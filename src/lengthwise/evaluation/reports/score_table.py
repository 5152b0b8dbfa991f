"""A run for a terminal: scores by task and by length, and what they cost.

Recipes are rows, so that a column more is a task or a length more; blocks that do not fit beside
each other follow below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence as Seq
from typing import IO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lengthwise._utils.plural import many
from lengthwise.evaluation.metrics.ruler import OverLengths, over_lengths
from lengthwise.evaluation.metrics.sample_row import SampleRow
from lengthwise.evaluation.metrics.scores import (
    Cost,
    Score,
    at_every_length,
    costs_of,
    recipes_in,
    refusals_of,
    scores_of,
)
from lengthwise.evaluation.reports.table import PIPE_WIDTH
from lengthwise.evaluation.scorers.aggregates import RULER_THRESHOLD

# Columns of tasks or lengths that stand beside each other.
_BESIDE = 4
LEGEND = (
    "A score is a mean from 0 to 1 with its 95% interval: Wilson's where all scores are 0 or 1, "
    "else the bootstrap's. - and +: surely below or above full (paired test by signs, p < 5%; no "
    "correction for many comparisons). Samples of one question, such as several replies, count as "
    "one: their mean."
)


def show_scores(
    rows: Seq[SampleRow], notes: Seq[str] = (), file: IO[str] | None = None,
    threshold: float = RULER_THRESHOLD,
) -> None:  # fmt: skip
    """Prints a run.

    Args:
        rows: of it.
        notes: what was left out.
        file: None is standard output.
        threshold: that RULER's scores exceed up to the effective length.
    """
    console = Console(markup=False, file=file)
    if not console.is_terminal:
        console = Console(markup=False, file=file, width=PIPE_WIDTH, color_system=None)
    console.print(score_report(rows, notes, threshold))


def score_report(
    rows: Seq[SampleRow], notes: Seq[str] = (), threshold: float = RULER_THRESHOLD
) -> RenderableType:
    """Everything a terminal shows of a run.

    Args:
        rows: of it.
        notes: what was left out.
        threshold: that RULER's scores exceed up to the effective length.
    """
    if not rows:
        return Group(Text("No sample was answered.", style="dim"), *map(Text, notes))
    parts: list[RenderableType] = []
    parts += _blocks("Score by task", rows, lambda row: row.task)
    lengths = sorted({row.length for row in rows})
    if len(lengths) > 1:
        parts += _by_length(rows, lengths)
    if ruler := over_lengths(rows, threshold):
        parts += [_ruler(ruler), Text(ruler_said(ruler), style="dim"), Text()]
    parts += [_costs(costs_of(rows)), Text()]
    for recipe, count, why in refusals_of(rows):
        parts += [Text(f"{recipe}: {many(count, 'sample')} refused: {why}"), Text()]
    parts.append(Text(LEGEND, style="dim"))
    return Group(*parts, *(Text(note, style="dim") for note in notes))


def _by_length(rows: Seq[SampleRow], lengths: Seq[int]) -> list[RenderableType]:
    some, others = at_every_length(rows)
    title = f"Score by length, {'tasks asked at every length' if others else 'all tasks'}"
    parts = _blocks(title, some, lambda row: f"{row.length:,}", lengths) if some else []
    return [*parts, Text(uneven_said(others), style="dim"), Text()] if others else parts


def _blocks(
    title: str, rows: Seq[SampleRow], of: Callable[[SampleRow], str], order: Seq[int] = ()
) -> list[RenderableType]:
    """Tables of recipes by what `of` says, some columns each; the last column is of all."""
    groups: dict[str, list[SampleRow]] = {f"{each:,}": [] for each in order}
    for row in rows:
        groups.setdefault(of(row), []).append(row)
    columns = list(groups.items())
    if len(columns) > 1:
        columns.append(("all", list(rows)))
    parts: list[RenderableType] = []
    for start in range(0, len(columns), _BESIDE):
        some = columns[start : start + _BESIDE]
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
        table.add_column("recipe", overflow="fold")
        by_recipe: list[Mapping[str, Score]] = []
        for name, mine in some:
            head = name.replace("/", "/\n") + f"\n{samples_said(mine)}"
            table.add_column(head, justify="right", overflow="fold")
            by_recipe.append({score.recipe: score for score in scores_of(mine)})
        for recipe in recipes_in(rows):
            table.add_row(recipe, *(cell(scores.get(recipe)) for scores in by_recipe))
        parts.append(table)
    return parts


def samples_said(rows: Seq[SampleRow]) -> str:
    """How many samples rows are of, and of how many questions where these are fewer."""
    samples, questions = len({row.sample for row in rows}), len({row.unit for row in rows})
    said = many(samples, "sample")
    return said if questions == samples else f"{said} of {many(questions, 'question')}"


def uneven_said(tasks: Seq[str]) -> str:
    """Which tasks have no say where lengths are compared, in words.

    Args:
        tasks: at least one.
    """
    return f"Not asked at every length, so no part of the scores by length: {', '.join(tasks)}."


def cell(score: Score | None) -> str:
    """A score with its interval, and a sign where it surely differs from full."""
    if score is None or score.mean is None:
        return "refused" if score is not None and score.refused else "-"
    sign = " -" if score.loses else " +" if score.wins else ""
    return f"{score.mean.value:.2f} [{_short(score.mean.low)} {_short(score.mean.high)}]{sign}"


def _short(value: float) -> str:
    """A share without the nought before its point."""
    return f"{value:.2f}".removeprefix("0") if value < 1 else f"{value:.1f}"


def _ruler(found: Seq[OverLengths]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="RULER by length", title_justify="left",
                  pad_edge=False)  # fmt: skip
    table.add_column("recipe", overflow="fold")
    heads = [f"{length:,}" for length in found[0].scores]
    for head in [*heads, "Avg", "wAvg (inc)", "wAvg (dec)", "effective"]:
        table.add_column(head, justify="right")
    for each in found:
        values = [*each.scores.values(), each.mean, each.rising, each.falling]
        table.add_row(each.recipe, *(_number(v, ".3f") for v in values), each.effective_text)
    return table


def ruler_said(found: Seq[OverLengths]) -> str:
    """What RULER's table shows, in words.

    Args:
        found: at least one recipe's.
    """
    tasks = found[0].tasks
    return (
        f"RULER: means over {tasks} task{'s' * (tasks > 1)} asked at every length. wAvg weighs "
        "lengths 1, 2, 3 ... (inc) or the other way round (dec). Effective: the longest length up "
        f"to which all scores are above {found[0].threshold:.3g}."
    )


def _costs(costs: Seq[Cost]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Cost", title_justify="left", pad_edge=False)
    table.add_column("recipe", overflow="fold")
    heads = ["tokens read", "first token, s", "tokens/s", "KV, MB"]
    heads += ["cut"] * any(each.cut for each in costs)
    heads += ["beyond trained"] * any(each.over for each in costs)
    for head in heads:
        table.add_column(head, justify="right")
    for each in costs:
        kv = None if each.kv_bytes is None else each.kv_bytes / 1e6
        cells = [
            _number(each.tokens_read, ",.0f"), _number(each.ttft_s, ".2f"),
            _number(each.tokens_per_s, ".1f"), _number(kv, ".1f"),
        ]  # fmt: skip
        cells += [f"{each.cut:,}"] * ("cut" in heads)
        cells += [f"{each.over:,}"] * ("beyond trained" in heads)
        table.add_row(each.recipe, *cells)
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


__all__ = [
    "LEGEND", "cell", "ruler_said", "samples_said", "score_report", "show_scores", "uneven_said",
]  # fmt: skip
