"""Rows as an interpreter and a notebook show them."""

from __future__ import annotations

import html
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lengthwise.evaluation.metrics.rows import Rows

# Pixels of the frame that a notebook shows the report in.
HEIGHT = 640


def as_text(rows: Rows) -> str:
    """What was measured on what, and the table of the terminal below it."""
    from lengthwise.evaluation.reports.table import show

    recipes = len({row.recipe for row in rows})
    lengths = ", ".join(f"{length:,}" for length in rows.lengths())
    head = f"<Rows of {rows.document or 'no document'}: {len(rows)}, {recipes} recipes"
    head += f", at {lengths} tokens" if lengths else ""
    head += ", interrupted>" if rows.interrupted else ">"
    if not rows:
        return head
    out = StringIO()
    show(rows, file=out)
    return f"{head}\n\n{out.getvalue().rstrip()}"


def as_frame(rows: Rows) -> str:
    """The report, with a page to itself: its styles and the notebook's do not meet."""
    page = html.escape(rows.to_html(), quote=True)
    return (
        f'<iframe srcdoc="{page}" title="lengthwise compare" loading="lazy" '
        f'style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
    )
