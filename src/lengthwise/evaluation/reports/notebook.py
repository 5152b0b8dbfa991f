"""Rows as an interpreter and a notebook show them."""

from __future__ import annotations

import html
from io import StringIO

from lengthwise.evaluation.metrics.rows import CompareRows
from lengthwise.evaluation.reports.table import show

# Pixels of the frame that a notebook shows the report in.
HEIGHT = 640


def as_text(rows: CompareRows) -> str:
    """What was measured on what, and the table of the terminal below it."""
    recipes = len({row.recipe for row in rows})
    lengths = ", ".join(f"{length:,}" for length in rows.lengths())
    head = f"<Comparison of {rows.document or 'no document'}: {len(rows)}, {recipes} recipes"
    head += f", at {lengths} tokens" if lengths else ""
    head += ", interrupted>" if rows.interrupted else ">"
    if not rows:
        return head
    out = StringIO()
    show(rows, file=out)
    return f"{head}\n\n{out.getvalue().rstrip()}"


def as_frame(page: str) -> str:
    """A page of the report in a frame of its own: its styles and the notebook's do not meet."""
    source = html.escape(page, quote=True)
    return (
        f'<iframe srcdoc="{source}" title="lengthwise compare" loading="lazy" '
        f'style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
    )
