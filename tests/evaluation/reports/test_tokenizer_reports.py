"""Tables, page and picture of a report on tokenizers."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from lengthwise.documents.document import Document
from lengthwise.evaluation.reports.svg import ChartFrame
from lengthwise.evaluation.reports.svg_rows import Row, height_of, row_chart
from lengthwise.evaluation.reports.tokenizer_blocks import (
    ENDS,
    blocks,
    languages_by_premium,
    notes,
)
from lengthwise.evaluation.reports.tokenizer_page import tokenizer_page
from lengthwise.evaluation.reports.tokenizer_picture import draw_tokenizers
from lengthwise.evaluation.reports.tokenizer_table import show_tokenizers
from lengthwise.tokenization.opened import Fast
from lengthwise.tokenization.report import Parallel, Question, Report, report
from tests.tiny_tokenizers import byte_fallback, byte_level

HOSTILE = "<script>alert(1)</script> [bold]"
LANGUAGES = {"en": ["the cat"]} | {f"l{n}": ["x" * (n + 1)] for n in range(30)}


@pytest.fixture(scope="module")
def made() -> Report:
    tokenizers = [
        Fast(HOSTILE, byte_level().backend_tokenizer, None),
        Fast("llama", byte_fallback().backend_tokenizer, 2),
    ]
    question = Question([Document("a.txt", "hello world 日本")], Parallel("x", LANGUAGES))
    return report(tokenizers, question)


def test_every_block_has_a_cell_a_head(made: Report) -> None:
    for block in blocks(made, whole=True):
        assert block.rows, block.title
        for name, cells in block.rows:
            assert len(cells) == len(block.heads), (block.title, name)
    assert any("llama" in note for note in notes(made))


def test_a_terminal_shows_the_ends_and_a_page_every_language(made: Report) -> None:
    order = languages_by_premium(made)
    assert order[0] == "l29" and order[-1] == "l0" and len(order) == 31
    short, whole = (
        next(block for block in blocks(made, every) if block.by == "language")
        for every in (False, True)
    )
    assert len(short.rows) == 2 * ENDS and len(whole.rows) == 31 and "31 languages" in short.said


def test_one_tokenizer_alone_has_all_figures_of_a_language(made: Report) -> None:
    alone = replace(made, tokenizers=made.tokenizers[:1])
    found = next(block for block in blocks(alone) if block.by == "language")
    assert [head for head, _ in found.heads][:4] == ["premium", "parity", "tokens", "fertility"]
    assert dict(found.rows)["l29"][2] == "30"
    titles = [block.title for block in blocks(made, whole=True)]
    assert {"Parity by language", "Fertility by language"} <= set(titles)


def test_names_are_text_everywhere(made: Report) -> None:
    out = io.StringIO()
    show_tokenizers(made, out)
    assert "[bold]" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 100
    page = tokenizer_page(made)
    assert "<script>" not in page and "alert(1)" in page
    assert page.count("<svg") == 4 and "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_pictures(made: Report, suffix: str, tmp_path: Path) -> None:
    draw_tokenizers(made, tmp_path / f"a{suffix}")
    assert (tmp_path / f"a{suffix}").stat().st_size > 5_000


def test_a_legend_covers_no_point(
    made: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    save = Figure.savefig

    def kept(self: Figure, *given: object, **named: object) -> None:
        figures.append(self)
        save(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", kept)
    several = [replace(made.tokenizers[0], name="n" * size) for size in (3, 12, 30, 9)]
    for tokenizers in (made.tokenizers, several):
        draw_tokenizers(replace(made, tokenizers=tokenizers), tmp_path / "a.png")
        (legend,), (axes,) = figures[-1].legends, figures[-1].axes
        assert [text.get_text() for text in legend.get_texts()] == [x.name for x in tokenizers]
        box = legend.get_window_extent()
        assert not box.overlaps(axes.get_tightbbox()) and box.x0 >= 0
        assert box.x1 <= figures[-1].bbox.x1


def test_counts_of_one_are_written_so() -> None:
    tokenizer = Fast("bytes", byte_level().backend_tokenizer, None)
    found = report([tokenizer, tokenizer], Question([Document("a.txt", "x")]))
    assert blocks(found)[0].said.startswith("On a.txt: 1 byte as read, 1 word. ")
    assert "1 token is in all of these vocabularies" in notes(replace(found, shared=1))
    assert "2 tokens are in all of these vocabularies" in notes(replace(found, shared=2))


def test_rows_without_a_value_have_no_marker() -> None:
    frame = ChartFrame("k", 300, height_of(2), "name", "said", "x", "")
    chart = row_chart(frame, [Row("a", [1.0, None]), Row("b", [None, None])], ["one", "two"])
    assert chart.count("<title>") == 1 and "a, one: 1.00" in chart
