"""The comparison as one page: it opens from a mail or a phone, and loads nothing from anywhere.

The page's frame and style are `report.html` beside this file; what stands here fills it. Every text
that came from a user, a document or a model passes through `escape`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from statistics import fmean
from string import Template

from lengthwise.errors import LengthwiseError
from lengthwise.measure.choice import Choice
from lengthwise.measure.columns import (
    ACCEPTED,
    COLUMNS,
    Column,
    best_of,
    full_of,
    lossless_text,
    number,
)
from lengthwise.measure.origin import Origin
from lengthwise.measure.rows import Row, Rows
from lengthwise.measure.svg import Line, Point, curves, scatter, series_class

Numbers = Mapping[str, int]

_LONG_ANSWER = 280


def page(rows: Rows, title: str, origin: Origin | None = None) -> str:
    """The whole page for `rows`, as text."""
    frame = resources.files("lengthwise.measure").joinpath("report.html")
    return Template(frame.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        facts=_facts(rows, origin),
        sections="\n".join(_section(rows, length, _numbers(rows)) for length in rows.lengths())
        or "<p>No recipe has finished.</p>",
        legend=_legend(),
    )


def write_aside(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` so that a reader finds the old file or the whole new one.

    Raises LengthwiseError when the place cannot be written to.
    """
    target = Path(path)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(target)
    except OSError as error:
        raise LengthwiseError(f"cannot write {target}: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)


def _numbers(rows: Rows) -> dict[str, int]:
    """A number for each recipe, 0 for `full`, the same in every table and chart of the page."""
    names = dict.fromkeys(row.recipe for row in rows)
    ordered = [name for name in names if name == "full"] + [n for n in names if n != "full"]
    offset = 0 if "full" in names else 1
    return {name: i + offset for i, name in enumerate(ordered)}


def _facts(rows: Rows, origin: Origin | None) -> str:
    models = dict.fromkeys(f"{row.model}, {row.dtype}, {row.device}" for row in rows)
    trained = f"{rows.trained_length:,} tokens" if rows.trained_length is not None else ""
    facts = [
        ("Model", "; ".join(models)),
        ("Trained for", trained),
        ("Document", rows.document or ""),
        *(origin.lines() if origin is not None else []),
    ]
    return "".join(
        f"<div{_class('wide', label in ('Versions', 'Command'))}>"
        f"<dt>{escape(label)}</dt><dd{_class('code', label == 'Command')}>{escape(text)}</dd></div>"
        for label, text in facts
        if text
    )


def _section(rows: Rows, length: int, numbers: Numbers) -> str:
    merged = rows.at_length(length)
    choice = rows.best(length)
    groups = {q: group for (n, q), group in rows.groups().items() if n == length}
    tables = "".join(_table(q, group, choice, numbers) for q, group in groups.items())
    answers = "".join(_answers(q, group, numbers) for q, group in groups.items())
    charts = [
        _speed_chart(merged, numbers, rows.full_is_valid(length)),
        _loss_chart(merged, numbers, choice, rows.trained_length),
        _byte_bars(merged, numbers),
    ]
    return (
        f'<section><h2>{length:,} tokens <span class="aside">{_against_trained(rows, length)}'
        f"</span></h2>{_pick(choice)}{tables}"
        f'<div class="charts">{"".join(charts)}</div>{answers}</section>'
    )


def _against_trained(rows: Rows, length: int) -> str:
    trained = rows.trained_length
    if trained is None:
        return ""
    if length <= trained:
        return "within what the model was trained for"
    return f"{length / trained:.2g} times what the model was trained for"


def _class(name: str, when: bool) -> str:
    return f' class="{name}"' if when else ""


def _pick(choice: Choice) -> str:
    name = f"<strong>{escape(choice.recipe)}</strong>" if choice.recipe else "No pick"
    return (
        f'<div class="pick"><p class="label">Our pick</p><p>{name}</p><p>{escape(choice.why)}</p>'
        "</div>"
    )


def _badge(recipe: str, numbers: Numbers) -> str:
    index = numbers[recipe]
    return f'<i class="badge {series_class(index)}">{index + 1}</i>'


def _name(recipe: str, numbers: Numbers) -> str:
    # Where there is little room, a line breaks before a plus or at an option, not inside a name.
    text = " +&nbsp;".join(escape(part) for part in recipe.split(" + ")).replace("(", "(<wbr>")
    return f'{_badge(recipe, numbers)}<span class="recipe">{text}</span>'


def _table(question: str | None, rows: Sequence[Row], choice: Choice, numbers: Numbers) -> str:
    full = full_of(rows)
    columns = [column for column in (*COLUMNS, ACCEPTED) if _worth_showing(column, rows, full)]
    heads = "".join(
        f'<th scope="col" title="{escape(column.title)}">{escape(column.head)}'
        f"<small>{escape(column.unit)}</small></th>"
        for column in columns
    )
    winners = [best_of(column, rows, full) for column in columns]
    body = "".join(_table_row(row, full, columns, winners, choice, numbers) for row in rows)
    title = f"<h3>{escape(question)}</h3>" if question else ""
    return (
        f'{title}<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">recipe</th>'
        f'{heads}<th scope="col" title="equal to plain greedy decoding, by construction">'
        f"loss-<small>less</small></th></tr></thead><tbody>{body}</tbody></table></div>"
    )


def _worth_showing(column: Column, rows: Sequence[Row], full: Row | None) -> bool:
    known = {column.value(row, full) for row in rows} - {None}
    return known - {1.0} != set() if column is ACCEPTED else bool(known)


def _table_row(
    row: Row,
    full: Row | None,
    columns: Sequence[Column],
    winners: Sequence[Row | None],
    choice: Choice,
    numbers: Numbers,
) -> str:
    head = f'<th scope="row">{_name(row.recipe, numbers)}</th>'
    if row.refused is not None:
        reason = f"<span>Refused: {escape(row.refused)}</span>"
        return (
            f'<tr class="refused">{head}<td class="reason" colspan="{len(columns) + 1}">{reason}'
            "</td></tr>"
        )
    cells = "".join(
        f"<td{_class('best', winner is row)}{_depths(column, row)}>{column.text(row, full)}</td>"
        for column, winner in zip(columns, winners, strict=True)
    )
    chosen = _class("chosen", row.recipe == choice.recipe)
    return f"<tr{chosen}>{head}{cells}<td>{lossless_text(row)}</td></tr>"


def _depths(column: Column, row: Row) -> str:
    if column.head != "needle" or not row.needle_by_depth:
        return ""
    depths = ", ".join(f"{number(y)} at depth {x:g}" for x, y in row.needle_by_depth)
    return f' title="{escape(depths)}"'


def _answers(question: str | None, rows: Sequence[Row], numbers: Numbers) -> str:
    said = [row for row in rows if row.answer is not None or row.notes]
    if not said:
        return ""
    items = "".join(
        f"<div><dt>{_name(row.recipe, numbers)}</dt><dd>{_answer(row.answer)}"
        f"{_notes(row.notes)}</dd></div>"
        for row in said
    )
    title = f"Answers: {escape(question)}" if question else "Answers"
    return f'<h3>{title}</h3><dl class="answers">{items}</dl>'


def _answer(answer: str | None) -> str:
    if answer is None:
        return ""
    text = answer.strip()
    if not text:
        return '<p class="note">(an empty answer)</p>'
    if len(text) <= _LONG_ANSWER:
        return f"<p>{escape(text)}</p>"
    start = " ".join(text[:_LONG_ANSWER].split())
    return (
        f"<details><summary><span>{escape(start)}…</span></summary><p>{escape(text)}</p></details>"
    )


def _notes(notes: Sequence[str]) -> str:
    return "".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def _quality(row: Row, use_agreement: bool) -> float | None:
    if use_agreement:
        return None if row.agreement is None else 100 * row.agreement
    known = [loss for loss in (row.copy_loss, row.needle_loss) if loss is not None]
    return fmean(known) if known else None


def _speed_chart(rows: Sequence[Row], numbers: Numbers, full_is_valid: bool) -> str:
    use_agreement = full_is_valid and any(row.agreement is not None for row in rows)
    shorts = _short_names([row.recipe for row in rows])
    points = []
    for row in rows:
        quality = _quality(row, use_agreement)
        if quality is None or not math.isfinite(quality) or row.tokens_per_s is None:
            continue
        title = f"{row.recipe}: {number(row.tokens_per_s, 1)} tokens/s, quality {number(quality)}"
        index = numbers[row.recipe]
        points.append(Point(quality, row.tokens_per_s, index, shorts[row.recipe], title))
    if not points:
        return ""
    x_title = (
        "agreement with full, % →" if use_agreement else "mean loss of the probes, nats (less is →)"
    )
    drawing = scatter(points, x_title, "tokens per second ↑", reverse_x=not use_agreement)
    return _figure("Speed against quality", "Up and to the right is better.", drawing)


def _short_names(recipes: Sequence[str]) -> dict[str, str]:
    """Method names without their options, where that still tells the recipes apart."""
    bare = {recipe: re.sub(r"\([^()]*\)", "", recipe) for recipe in recipes}
    names = list(bare.values())
    return {
        recipe: (short if names.count(short) == 1 else recipe) for recipe, short in bare.items()
    }


def _loss_chart(rows: Sequence[Row], numbers: Numbers, choice: Choice, trained: int | None) -> str:
    lines = []
    for row in rows:
        points = [(x, y) for x, y in row.loss_by_position or () if math.isfinite(y)]
        if points:
            strong = row.recipe in ("full", choice.recipe)
            lines.append(Line(points, numbers[row.recipe], row.recipe, strong))
    if not lines:
        return ""
    mark = (float(trained), f"trained for {trained:,}") if trained is not None else None
    drawing = curves(lines, "position, tokens", "loss, nats a token", mark)
    legend = "".join(
        f'<li><i class="swatch {series_class(line.index)}"></i>{escape(line.title)}</li>'
        for line in lines
    )
    said = "Lower is better. Thick lines: full attention and our pick."
    return _figure("Loss by position", said, f'{drawing}<ul class="legend">{legend}</ul>')


def _byte_bars(rows: Sequence[Row], numbers: Numbers) -> str:
    ran = [row for row in rows if row.kv_bytes is not None]
    widest = max((max(row.kv_bytes or 0, row.kv_peak_bytes or 0) for row in ran), default=0)
    if not widest:
        return ""
    bars = "".join(_byte_bar(row, widest, numbers) for row in ran)
    said = "Solid: held when generation ended. Outline: the most held at any moment. MB."
    return _figure("KV bytes", said, f'<div class="bars">{bars}</div>', wide=True)


def _byte_bar(row: Row, widest: int, numbers: Numbers) -> str:
    kept, peak = row.kv_bytes or 0, row.kv_peak_bytes
    text = number(kept / 1e6, 1) + (f" / {number(peak / 1e6, 1)}" if peak is not None else "")
    outline = f'<b class="peak" style="width:{100 * (peak or 0) / widest:.2f}%"></b>'
    return (
        f'<div class="name">{_name(row.recipe, numbers)}</div><div class="bar">{outline}'
        f'<b class="kept {series_class(numbers[row.recipe])}" '
        f'style="width:{100 * kept / widest:.2f}%"></b></div><div class="value">{text}</div>'
    )


def _figure(title: str, said: str, drawing: str, wide: bool = False) -> str:
    return (
        f"<figure{_class('wide', wide)}><figcaption><strong>{title}</strong> {said}"
        f"</figcaption>{drawing}</figure>"
    )


def _legend() -> str:
    return "".join(
        f"<div><dt>{escape(column.head)} <small>{escape(column.unit)}</small></dt>"
        f"<dd>{escape(column.title)}</dd></div>"
        for column in (*COLUMNS, ACCEPTED)
    )
