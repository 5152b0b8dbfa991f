"""A report on tokenizers as one page that loads nothing: tables, and charts of length and premiums.

The page is `templates/tokenizers.html`; its style is that of the other pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq

from markupsafe import Markup

from lengthwise._utils.outputs import MARK
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.reports.charts import SIZES, Figure
from lengthwise.evaluation.reports.pages import clean, environment
from lengthwise.evaluation.reports.svg import ChartFrame
from lengthwise.evaluation.reports.svg_rows import Row, height_of, row_chart
from lengthwise.evaluation.reports.tokenizer_blocks import blocks, languages_by_premium, notes
from lengthwise.tokenization.report import Report, TokenizerReport


def tokenizer_page(report: Report, origin: Origin | None = None) -> str:
    """The page of a report.

    Args:
        report: of tokenizers.
        origin: machine, versions and command.

    Returns:
        HTML that loads nothing from anywhere.
    """
    names = [each.name for each in report.tokenizers]
    facts = [("Text", report.text), ("Tokenizers", f"{len(names)}")]
    if report.parallel:
        count = len(report.tokenizers[0].languages)
        facts.append(("Parallel text", f"{report.parallel}, {count} languages"))
    page = environment({name: at for at, name in enumerate(names)}).get_template("tokenizers.html")
    return clean(page.render(
        title="How long a text is in tokens", mark=MARK, names=names, facts=facts,
        blocks=blocks(report, whole=True), notes=notes(report), charts=_charts(report),
        origin=[] if origin is None else origin.lines(),
    ))  # fmt: skip


def _charts(report: Report) -> list[Figure]:
    figures = [_figure(
        report, "length", "Bytes a token", "How much of the text a token holds; longer is better.",
        ["text"], lambda each, row: each.text.bytes_per_token, "bytes a token →", 0.0,
    )]  # fmt: skip
    if report.parallel:
        figures.append(_figure(
            report, "premium", "Premium by language",
            f"Tokens of each language over those of {report.reference}, on the same text. Further "
            "left is better.", languages_by_premium(report), _premium,
            f"times the tokens of {report.reference} →", 1.0,
        ))  # fmt: skip
    return figures


def _premium(each: TokenizerReport, language: str) -> float | None:
    return next((x.premium for x in each.languages if x.language == language), None)


def _figure(
    report: Report, key: str, title: str, said: str, rows: Seq[str],
    value: Callable[[TokenizerReport, str], float | None], axis: str, line: float,
) -> Figure:  # fmt: skip
    names = [each.name for each in report.tokenizers]
    drawn = [Row(row, [value(each, row) for each in report.tokenizers]) for row in rows]
    told = "; ".join(
        f"{row.name}: " + ", ".join(
            f"{name} {each:.2f}" for name, each in zip(names, row.values, strict=True)
            if each is not None)
        for row in drawn
    )  # fmt: skip

    def chart(size: str) -> Markup:
        frame = ChartFrame(
            f"{key}-{size}", SIZES[size][0], height_of(len(drawn)), title, told, axis, ""
        )
        return row_chart(frame, drawn, names, line)

    return Figure(title, said, chart("wide"), chart("narrow"))


__all__ = ["tokenizer_page"]
