"""A report on tokenizers as a picture: premiums by language, or bytes a token without languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lengthwise._utils.files import write_aside
from lengthwise._utils.outputs import picture_metadata
from lengthwise.evaluation.reports.tokenizer_blocks import languages_by_premium
from lengthwise.tokenization.report import Report

# Rows that are named; of more languages every so many is shown.
MOST = 48
_MARKS = "osD^vP*Xhp<>"
# Characters that a line of the legend holds, and those that a marker and its margins take.
_LEGEND, _MARGIN = 110, 8


def draw_tokenizers(report: Report, path: Path) -> None:
    """Writes the picture as PNG, SVG or PDF.

    Args:
        report: of tokenizers.
        path: of the file.
    """
    from matplotlib.figure import Figure

    languages = languages_by_premium(report)
    shown = languages[:: -(-len(languages) // MOST)] if languages else []
    names = [each.name for each in report.tokenizers]
    beside = min(len(names), max(1, _LEGEND // (max(map(len, names)) + _MARGIN)))
    rows = len(shown) - (-len(names) // beside) if shown else len(names)
    figure = Figure(figsize=(7.5, 1.2 + 0.19 * rows), layout="constrained")
    axes = figure.subplots()
    if shown:
        _premiums(axes, report, shown)
        # Beside the axes: wherever it stood within, points would lie under it.
        figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=beside)
        some = f"; {len(shown)} of {len(languages)} languages" if shown != languages else ""
        axes.set_title(f"{report.parallel}{some}", loc="left", fontsize=9)
    else:
        axes.barh(names, [each.text.bytes_per_token for each in report.tokenizers], color="C0")
        axes.invert_yaxis()
        axes.set_xlabel(f"bytes a token on {report.text}")
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", alpha=0.25, lw=0.6)
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=110, format=path.suffix[1:], metadata=picture_metadata(path))


def _premiums(axes: Any, report: Report, languages: list[str]) -> None:
    for number, each in enumerate(report.tokenizers):
        known = {language.language: language.premium for language in each.languages}
        axes.plot(
            [known[language] for language in languages], range(len(languages)), ls="", ms=4.5,
            marker=_MARKS[number % len(_MARKS)], color=f"C{number % 10}", alpha=0.85,
            label=each.name,
        )  # fmt: skip
    axes.axvline(1.0, color="0.5", lw=0.8, ls=":")
    axes.set_yticks(range(len(languages)), languages)
    axes.set_ylim(len(languages) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"tokens over those of {report.reference} on the same text")


__all__ = ["draw_tokenizers"]
