"""The page of a comparison: whole, legible by colour, keyboard and ear, and safe."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from bs4 import BeautifulSoup, Tag

from lengthwise.evaluation.compare.results import Comparison
from tests.evaluation.reports.report_cases import (
    ARABIC,
    CASES,
    CHINESE,
    HOSTILE,
    ORIGIN,
    QUESTIONS,
    refused,
    row,
    soup_of,
)

STYLE = (
    resources.files("lengthwise.evaluation.reports")
    .joinpath("templates/style.css")
    .read_text(encoding="utf-8")
)


def recipes_in(element: Tag) -> list[str]:
    return [name.text.replace("\xa0", " ") for name in element.select(".recipe")]


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> tuple[Comparison, BeautifulSoup]:
    rows = CASES[request.param]
    return rows, soup_of(rows)


# Structure.


def test_one_table_a_length_has_every_recipe_once(case: tuple[Comparison, BeautifulSoup]) -> None:
    rows, soup = case
    tables = soup.select("table.measures")
    assert len(tables) == len(rows.lengths())
    for length, table in zip(rows.lengths(), tables, strict=True):
        wanted = list(dict.fromkeys(r.recipe for r in rows if r.length == length))
        shown = recipes_in(table)
        assert len(shown) == len(wanted)
        if "a\x00b" not in "".join(wanted):
            assert shown == wanted


def test_a_card_has_every_column_of_the_table(case: tuple[Comparison, BeautifulSoup]) -> None:
    _, soup = case
    for table in soup.select("table.measures"):
        heads = [th.a.text.replace("\xad", "") for th in table.select("thead th")[1:]]  # type: ignore[union-attr]
        for line in table.select("tbody tr"):
            if "refused" in line.get("class", []):
                assert line.select_one(".reason").text.startswith("Refused: ")  # type: ignore[union-attr]
                continue
            cells = line.select("td")
            assert [cell.select_one(".head").text for cell in cells] == heads  # type: ignore[union-attr]
            for cell in cells:
                for label in cell.select(".head, .unit"):
                    assert label["aria-hidden"] == "true"  # the heading is read aloud already
                    label.extract()
                assert cell.text.strip()


def test_every_column_shown_is_explained_and_no_other(
    case: tuple[Comparison, BeautifulSoup],
) -> None:
    _, soup = case
    links = {str(a["href"]).removeprefix("#") for a in soup.select(".measures thead a")}
    assert {str(div["id"]) for div in soup.select(".meanings > div")} == links
    for said in soup.select(".meanings dd")[:-1]:
        assert said.text.endswith(("; more is better", "; less is better"))


def test_tables_keep_their_meaning_as_cards(case: tuple[Comparison, BeautifulSoup]) -> None:
    """display: grid takes a table's roles away unless they are written down."""
    _, soup = case
    for table in soup.select("table.measures"):
        assert table["role"] == "table"
        assert all(tr["role"] == "row" for tr in table.select("tr"))
        assert all(th["role"] == "columnheader" for th in table.select("thead th"))
        assert all(th["role"] == "rowheader" for th in table.select("tbody th"))
        assert all(td["role"] == "cell" for td in table.select("td"))
        assert all(th["scope"] in ("row", "col") for th in table.select("th"))


def test_ids_are_unique_and_everything_named_is_there(
    case: tuple[Comparison, BeautifulSoup],
) -> None:
    _, soup = case
    ids = [tag["id"] for tag in soup.select("[id]")]
    assert len(ids) == len(set(ids))
    for tag in soup.select("[aria-labelledby]"):
        assert set(str(tag["aria-labelledby"]).split()) <= set(ids)
    links = {str(a["href"]) for a in soup.select("[href]")}
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_a_chart_says_what_it_shows_and_its_numbers(case: tuple[Comparison, BeautifulSoup]) -> None:
    rows, soup = case
    for svg in soup.select("svg"):
        assert svg["role"] == "img"
        title, said = svg.find("title", recursive=False), svg.find("desc", recursive=False)
        assert title is not None and re.search(r"at [\d,]+ tokens", title.text)
        assert said is not None and re.search(r": .*\d", said.text)
    for figure in soup.select("figure"):
        assert len(figure.select("svg")) == 2
        assert re.search(r"[aA]t [\d,]+ tokens", figure.figcaption.text)  # type: ignore[union-attr]
    if rows and "hostile" not in str(rows.document):
        for group in soup.select("svg g"):
            assert group.title is not None and group.title.text


def test_nothing_is_run_or_loaded(case: tuple[Comparison, BeautifulSoup]) -> None:
    rows, soup = case
    bad = ["link", "script", "img", "iframe", "object", "embed", "base", "form", "input"]
    assert not soup.find_all(bad)
    for tag in soup.find_all():
        assert not {"src", "srcset", "xlink:href"} & set(tag.attrs)
        assert str(tag.get("href", "#")).startswith("#")
        assert not [name for name in tag.attrs if name.startswith("on")]
    page = rows.to_html()
    assert "url(" not in page and "@import" not in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", page)


def test_hostile_text_stays_text() -> None:
    soup = soup_of(CASES["hostile"])
    assert HOSTILE in soup.select_one(".facts").text  # type: ignore[union-attr]
    assert HOSTILE in recipes_in(soup.select_one("table.measures"))  # type: ignore[arg-type]
    assert HOSTILE in soup.select_one(".answers details p").text  # type: ignore[union-attr]
    assert HOSTILE in soup.select_one(".notes").text  # type: ignore[union-attr]
    assert any(HOSTILE in title.text for title in soup.select("svg g title"))


def test_a_page_can_be_written_whatever_the_text(tmp_path: Path) -> None:
    """A file name that is no UTF-8 comes in as a lone surrogate, which no file can hold."""
    rows = Comparison([row("full")], "caf\udce9.txt", 8192, ORIGIN)
    rows.to_html(tmp_path / "x.html")
    assert "caf\N{REPLACEMENT CHARACTER}.txt" in (tmp_path / "x.html").read_text(encoding="utf-8")


# Questions and answers.


def test_questions_share_a_table_and_have_answers_of_their_own() -> None:
    soup = soup_of(CASES["questions"])
    assert len(soup.select("table.measures")) == 1
    heads = [h3.text for h3 in soup.select("h3")]
    assert [h for h in heads if h in QUESTIONS] == list(QUESTIONS)
    assert len(soup.select("dl.answers")) == 3
    for caption in soup.select("figcaption"):
        assert re.search("over 3 questions|whatever is asked", caption.text)
    assert "medians over 3 questions" in soup.text


def test_equal_answers_stand_once() -> None:
    soup = soup_of(CASES["questions"])
    shown = [recipes_in(dt) for dt in soup.select("dl.answers dt")]
    assert shown == [["full", "kivi(bits=4)"], ["snapkv", "lookup"]] * 3


def test_one_question_is_named_in_the_captions() -> None:
    captions = [c.text for c in soup_of(CASES["twenty"]).select("figcaption")]
    assert sum("asked “What is <it>?”" in caption for caption in captions) == 2


def test_what_is_refused_for_one_question_only_says_so_there() -> None:
    rows = Comparison([
        row("full", question="a"), row("full", question="b"),
        row("kivi", 1, question="a"), refused("kivi", "not a number", question="b"),
    ])  # fmt: skip
    lists = soup_of(rows).select("dl.answers")
    assert "not a number" not in lists[0].text
    assert "Refused: not a number" in lists[1].text


def test_text_of_any_script_takes_its_own_direction() -> None:
    soup = soup_of(CASES["scripts"])
    said = {p.text: p for p in soup.select(".answers dd p, .answers dd bdi")}
    assert said[ARABIC]["dir"] == "auto" and said[CHINESE]["dir"] == "auto"
    assert all(name.name == "bdi" for name in soup.select(".recipe"))


# Charts.


def _marks(svg: Tag) -> list[tuple[float, float]]:
    """Centres of the markers, by the numbers that stand in them."""
    return [(float(str(t["x"])), float(str(t["y"]))) for t in svg.select("text.number")]


def test_every_measured_recipe_is_a_numbered_point() -> None:
    soup = soup_of(CASES["twenty"])
    for figure in soup.select("figure")[:2]:
        for svg in figure.select("svg"):
            numbers = [int(text.text) for text in svg.select("text.number")]
            assert sorted(numbers) == list(range(1, 21))


@pytest.mark.parametrize("name", ["same", "twenty"])
def test_points_at_one_place_are_told_apart(name: str) -> None:
    for svg in soup_of(CASES[name]).select("figure svg")[:4]:
        marks = _marks(svg)
        assert len(marks) > 1
        for i, (x, y) in enumerate(marks):
            for other_x, other_y in marks[:i]:
                assert (x - other_x) ** 2 + (y - other_y) ** 2 > 16**2


def test_lines_at_one_place_share_an_end_that_names_them_all() -> None:
    svg = soup_of(CASES["same"]).select("figure svg")[4]
    assert len(svg.select("polyline")) == 1
    assert svg.select_one("text.own").text == "1–5"  # type: ignore[union-attr]


def test_numbers_at_an_end_are_never_cut_away_for_six_recipes() -> None:
    curve = [(100, 3.0), (200, 2.0)]
    names = ("full", "a", "b", "c", "d", "e")
    other = [[(100, 3.0), (200, i)] for i in range(len(names))]
    curves = [curve if i % 2 == 0 else other[i] for i in range(len(names))]
    made = [row(name, i, loss_by_position=curves[i]) for i, name in enumerate(names)]
    rows = Comparison(made, trained_length=8192)
    for svg in soup_of(rows).select("figure svg")[4:6]:
        assert "1 3 5" in [text.text for text in svg.select("text.own")]


def test_loss_over_full_is_the_difference_at_the_same_places() -> None:
    rows = Comparison([
        row("full", loss_by_position=[(10, 2.0), (20, 3.0)]),
        row("kivi", 1, loss_by_position=[(10, 2.5), (20, 2.75), (30, 9.0)]),
    ], trained_length=8192)  # fmt: skip
    table = soup_of(rows).select("details.numbers table")[1]
    assert [th.text for th in table.select("thead th")] == ["recipe", "10", "20"]
    assert [td.text for td in table.select("tr")[2].select("td")] == ["0.500", "-0.250"]


def test_losses_are_up_where_full_is_no_truth() -> None:
    """Beyond the trained length the probes are the quality, and less of them is up."""
    rows = Comparison(
        [row("full", agreement=None, copy_loss=7.0, needle_loss=5.0, kv_bytes=200_000_000),
         row("yarn", 1, agreement=None, copy_loss=1.0, needle_loss=1.0, kv_bytes=100_000_000)],
        trained_length=4096,
    )  # fmt: skip
    svg = soup_of(rows).select("figure svg")[0]
    assert "probe loss, nats (less is up)" in svg.text
    (full_x, full_y), (yarn_x, yarn_y) = _marks(svg)
    assert yarn_y < full_y and yarn_x < full_x


def test_a_recipe_that_loses_what_was_planted_is_hollow() -> None:
    """It agrees on the next token as often as others do, and no line leads through it."""
    rows = Comparison([
        row("full", copy_loss=1.0, kv_bytes=300_000_000),
        row("kivi", 1, copy_loss=1.5, agreement=0.98, kv_bytes=200_000_000),
        row("streaming", 2, copy_loss=8.0, agreement=0.99, kv_bytes=100_000_000),
    ], trained_length=8192)  # fmt: skip
    soup = soup_of(rows)
    svg = soup.select("figure svg")[0]
    assert [g.title.text.split(":")[0] for g in svg.select("g.hollow")] == ["streaming"]  # type: ignore[union-attr]
    (full_x, _), (kivi_x, _), (lost_x, _) = _marks(svg)
    path = str(svg.select_one("path.frontier")["d"])  # type: ignore[index]
    assert f"M{kivi_x:.1f}" in path and f"H{full_x:.1f}" in path and f"{lost_x:.1f}" not in path
    assert "Hollow: " in soup.text and "Hollow: " not in soup_of(CASES["same"]).text


def test_no_share_of_tokens_exceeds_all_of_them() -> None:
    ticks = [t.text for t in soup_of(CASES["same"]).select("figure svg")[0].select("text.tick.end")]
    assert ticks and max(map(float, ticks)) == 100


# What is measured beside the plain figures is shown where a row has it.


BINS = [
    {"start": 0, "stop": 20, "n": 20, "mean": 3.0, "error": 0.1, "over_full": None,
     "over_full_error": None},
    {"start": 20, "stop": 40, "n": 20, "mean": 2.0, "error": 0.1, "over_full": None,
     "over_full_error": None},
]  # fmt: skip
OVER = [each | {"mean": 3.5, "over_full": 0.25, "over_full_error": 0.05} for each in BINS]


def test_intervals_bands_and_counts_are_shown() -> None:
    shared = {"fidelity_tokens": 512, "max_new_tokens": 64}
    rows = Comparison([
        row("full", loss_bins=BINS, **shared),
        row("kivi", 1, loss_bins=OVER, agreement_interval=(0.95, 0.99), **shared),
    ], trained_length=8192)  # fmt: skip
    soup = soup_of(rows)
    assert "512 tokens" in soup.select_one("section").text  # type: ignore[union-attr]
    charts = soup.select("figure")
    assert len(charts[0].select_one("svg").select(".whisker")) == 1  # type: ignore[union-attr]
    assert "n = 512" in charts[0].text and "seconds to 64 tokens" in charts[1].text
    assert len(charts[2].select_one("svg").select(".band")) == 2  # type: ignore[union-attr]
    assert "Over 40 tokens" in charts[2].text
    over = charts[3].select("table tbody tr")
    assert [td.text for td in over[0].select("td")] == ["0.000", "0.000"]
    assert [td.text for td in over[1].select("td")] == ["0.250", "0.250"]


def test_another_text_and_the_expected_one_are_marked_at_the_answer() -> None:
    said = {"answer": "Ann signed.", "expected": "Ann", "expected_found": True}
    rows = Comparison([
        row("full", expected_loss=0.5, **said),
        row("lookup", 1, same_text=False, expected_loss=0.75, **said),
        row("sam", 2, same_text=True, **said),
    ])  # fmt: skip
    soup = soup_of(rows)
    answers = soup.select("dl.answers > div")
    assert [recipes_in(a) for a in answers] == [["full", "sam"], ["lookup"]]
    assert "expected “Ann”: found" in answers[0].text and "near tie" not in answers[0].text
    assert "near tie" in answers[1].text
    assert "0.75" in soup.select_one(".pair:nth-of-type(2)").text  # type: ignore[union-attr]


def test_rows_without_those_fields_show_nothing_of_them() -> None:
    text = soup_of(CASES["twenty"]).text
    for word in ("95%", "n =", "near tie", "expected"):
        assert word not in text


# Colours.


def _themes() -> list[dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.S)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: str, b: str) -> float:
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_and_numbers_are_legible_in_light_and_dark() -> None:
    light, dark = _themes()
    for theme in (light, dark):
        for name in ("ink", "soft", "faint", "accent", *(f"c{i}" for i in range(1, 8))):
            for ground in ("paper", "card"):
                assert _contrast(theme[name], theme[ground]) >= 4.5, (name, ground)
        assert _contrast(theme["soft"], theme["accent-wash"]) >= 4.5


def test_forty_recipes_differ_in_colour_dash_or_shape() -> None:
    from lengthwise.evaluation.reports.svg import SHAPES, series_class

    looks = {(series_class(i), i % len(SHAPES)) for i in range(1, 36)}
    assert len(looks) == 35


def test_a_case_replaced_is_another_page() -> None:
    """The page is made of its rows: another figure is another page."""
    rows = CASES["one"]
    other = replace(rows, rows=[replace(rows[0], kl=0.123456)])
    assert "0.123" in other.to_html() and "0.123" not in rows.to_html()


def test_the_trade_off_is_a_list_of_what_each_recipe_loses_and_costs() -> None:
    listed = 0
    for rows in CASES.values():
        soup = soup_of(rows)
        for length, box in zip(rows.lengths(), soup.select(".pick"), strict=True):
            choice = rows.best(length)
            items = [item.text for item in box.select("li")]
            if choice.recipe is None and len(choice.front) > 1:
                listed += 1
                assert len(items) == len(choice.front)
                assert all(
                    reason in item for reason, item in zip(choice.reasons, items, strict=True)
                )
                assert choice.why not in box.text
            else:
                assert not items and choice.why in box.text
    assert listed
