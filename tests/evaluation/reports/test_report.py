"""The reports show every row, escape every text and load nothing."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from rich.console import Console

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.compare.results import Comparison
from lengthwise.evaluation.metrics.row import CompareRow
from lengthwise.evaluation.reports.columns import DASH
from lengthwise.evaluation.reports.table import show
from tests.evaluation.measured_rows import COPYING, FULL, REFUSED, ROWS, SCRIPT, row


def test_the_page_shows_every_row_and_escapes_every_text() -> None:
    page = ROWS.to_html(title=f"A {SCRIPT} title")
    soup = BeautifulSoup(page, "html.parser")
    assert soup.find("script") is None
    assert soup.find("note") is None
    assert soup.find("document") is None
    assert soup.h1 is not None and soup.h1.text == f"A {SCRIPT} title"
    names = [th.find(class_="recipe").text for th in soup.select(".measures tbody th")]  # type: ignore[union-attr]
    assert [name.replace("\xa0", " ") for name in names] == [r.recipe for r in ROWS]
    reason = soup.select_one("tr.refused .reason")
    assert reason is not None and reason.text == f"Refused: {REFUSED.refused}"
    answers = soup.select_one(".answers")
    assert answers is not None and COPYING.answer in answers.text
    facts, origin = soup.select_one(".facts"), soup.select_one(".origin")
    assert facts is not None and origin is not None
    for text in ("My <document>", "A <cpu>", "8,192 tokens"):
        assert text in facts.text
    for text in ("abc1234", "lengthwise compare", "lengthwise 0.1"):
        assert text in origin.text
    # Quality against memory and time, loss and loss over full's: each wide and narrow.
    assert len(soup.find_all("svg")) == 8
    assert len(soup.select("svg text.number")) == 4 * 4


def test_the_page_loads_nothing() -> None:
    page = ROWS.to_html()
    soup = BeautifulSoup(page, "html.parser")
    assert not soup.find_all(["link", "script", "img", "iframe", "object", "embed", "base"])
    assert not [tag for tag in soup.find_all() if {"src", "srcset"} & set(tag.attrs)]
    assert all(str(tag["href"]).startswith("#") for tag in soup.select("[href]"))
    for loading in ("url(", "@import", "http:", "https:", "src="):
        assert loading not in page
    assert soup.select_one("meta[name=viewport]") is not None
    assert "prefers-color-scheme: dark" in page


def test_the_page_has_a_table_a_length_and_a_list_of_answers_a_question() -> None:
    rows = [row("full", length=n, question=q) for n in (4096, 8192) for q in ("One?", "Two?")]
    soup = BeautifulSoup(Comparison(rows).to_html(), "html.parser")
    assert [h.text.split(" tokens")[0] for h in soup.select("section h2")] == ["4,096", "8,192"]
    assert len(soup.select("table.measures")) == 2
    assert len(soup.select("dl.answers")) == 4


@pytest.mark.parametrize("rows", [[], [REFUSED], [row("full", loss_by_position=None)]])
def test_the_page_and_the_table_stand_whatever_is_missing(rows: list[CompareRow]) -> None:
    assert "</html>" in Comparison(rows).to_html()
    show(Comparison(rows), file=io.StringIO())


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert ROWS.to_html(path) == path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(LengthwiseError, match="there is no folder"):
        ROWS.to_html(tmp_path / "nowhere" / "report.html")
    note = tmp_path / "note.txt"
    note.write_text("mine")
    with pytest.raises(LengthwiseError, match="no report of lengthwise.*force=True"):
        ROWS.to_html(note)
    assert note.read_text() == "mine"
    assert ROWS.to_html(note, force=True) == note.read_text(encoding="utf-8")


@pytest.mark.parametrize("whole", [False, True])
def test_the_table_fits_a_pipe_of_100_columns(whole: bool) -> None:
    out = io.StringIO()
    show(ROWS, full=whole, file=out)
    text = out.getvalue()
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100
    for shown in ("snapkv(budget=25%)", "two owners", "An answer of full", "a <note>", "25.0"):
        assert shown in text
    assert text.count("x") >= 400


def test_what_was_not_measured_is_a_dash() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(Comparison([FULL, row("yarn(factor=2)", agreement=None, kl=None)]).table())
    assert DASH in console.file.getvalue()  # type: ignore[attr-defined]
