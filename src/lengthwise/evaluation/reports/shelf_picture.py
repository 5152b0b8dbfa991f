"""The shelf as a picture: quality against what is held or read, and against seconds.

A row of charts a question; a line a method, from its largest share to its smallest. Quality is KL
to full, on a logarithmic axis, so lower is better. Of a selection the first axis is what a step
reads, since it holds everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lengthwise._utils.files import write_aside
from lengthwise._utils.outputs import picture_metadata
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.shelf_rows import ShelfRow, ShelfRows
from lengthwise.evaluation.reports.shelf_table import heading

# A KL below this is drawn as this: a logarithm knows no 0.
LEAST = 1e-4
_MARKS = "osD^vP*Xhp<>"
_COST = {"selection": "tokens read a step, % of the text"}


def needs_matplotlib(option: str) -> None:
    """Raises LengthwiseError where a picture cannot be drawn.

    Args:
        option: which asked for it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise LengthwiseError(
            f"{option} needs matplotlib: pip install 'lengthwise[scaling]'"
        ) from None


def draw(rows: ShelfRows, path: Path) -> None:
    """Writes the picture as PNG, SVG or PDF.

    Args:
        rows: of one run.
        path: of the file.

    Raises:
        LengthwiseError: where there is nothing to draw.
    """
    from matplotlib.figure import Figure

    questions: dict[str, dict[str, list[ShelfRow]]] = {}
    for (question, _), group in rows.groups().items():
        for row in group:
            if row.kl is not None:
                questions.setdefault(question, {}).setdefault(row.asked, []).append(row)
    if not questions:
        raise LengthwiseError(f"{path}: no method has a figure to draw")
    figure = Figure(figsize=(11, 3.4 * len(questions) + 0.4), layout="constrained")
    figure.suptitle(heading(rows.rows[0]), fontsize=9)
    grid = figure.subplots(len(questions), 2, squeeze=False, sharey="row")
    for (question, methods), (left, right) in zip(questions.items(), grid, strict=True):
        _lines(left, methods, lambda row: None if row.spent is None else 100 * row.spent)
        _lines(right, methods, lambda row: row.seconds)
        if rows.full is not None and rows.full.seconds:
            right.axvline(rows.full.seconds, color="0.6", lw=1, ls=":", label="full")
        left.set_xlabel(_COST.get(question, "bytes held, % of full"))
        right.set_xlabel(_seconds_label(rows.rows[0]))
        left.set_ylabel("KL to full, nats a token")
        left.set_title(question, loc="left", fontsize=10, fontweight="bold")
        for axes in (left, right):
            axes.set_yscale("log")
            axes.set_xlim(left=0)
            axes.grid(alpha=0.25, lw=0.6)
        right.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=130, format=path.suffix[1:], metadata=picture_metadata(path))


def _seconds_label(row: ShelfRow) -> str:
    wrote = f" and write {row.new_tokens} tokens" if row.new_tokens else ""
    return f"seconds to read the text{wrote}"


def _lines(
    axes: Any, methods: dict[str, list[ShelfRow]], cost: Callable[[ShelfRow], float | None]
) -> None:
    for number, (method, rows) in enumerate(methods.items()):
        points = [(x, max(LEAST, row.kl or 0.0)) for row in rows if (x := cost(row)) is not None]
        if points:
            xs, ys = zip(*_sorted(points), strict=True)
            colour, mark = f"C{number % 10}", _MARKS[number % len(_MARKS)]
            axes.plot(xs, ys, marker=mark, ms=5, lw=1, color=colour, label=method, alpha=0.85)


def _sorted(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    return sorted(points, key=lambda point: -point[0])


__all__ = ["draw", "needs_matplotlib"]
