"""The reports show every row, escape every text, load nothing, and pick by the rule they state."""

from __future__ import annotations

import io
import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from bs4 import BeautifulSoup
from rich.console import Console

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.compare.results import Comparison
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.row import CompareRow
from lengthwise.evaluation.reports.columns import DASH
from lengthwise.evaluation.reports.table import show

_FIELD_NAMES = (
    "recipe model dtype device length question answer agreement kl copy_loss needle_loss "
    "loss_by_position ttft_s tokens_per_s kv_bytes kv_peak_bytes accepted_per_step lossless refused"
)
FIELDS = _FIELD_NAMES.split()
LATER = ["needle_by_depth", "notes", "accepted", "draft_s", "verify_s"]
LATER += [
    "prompt_tokens", "max_new_tokens", "answer_tokens", "fidelity_tokens", "fidelity_length",
    "agreement_interval", "kl_error", "loss_bins", "reads_as_full", "same_text", "expected",
    "expected_found", "expected_loss", "kv_offloaded_bytes",
]  # fmt: skip
SCRIPT = "<script>alert('x')</script>"
ORIGIN = Origin({"cpu": "A <cpu>"}, {"lengthwise": "0.1"}, "abc1234", "lengthwise compare")


def row(recipe: str, **values: Any) -> CompareRow:
    measured: dict[str, Any] = {
        "length": 8192,
        "question": "What is <it>?",
        "answer": f"An answer of {recipe}",
        "agreement": 1.0,
        "kl": 0.0,
        "copy_loss": 0.1,
        "needle_loss": 1.0,
        "needle_by_depth": [(0.1, 1.0), (0.9, 1.0)],
        "loss_by_position": [(100, 3.0), (4000, 2.5), (8000, 2.4)],
        "ttft_s": 10.0,
        "tokens_per_s": 20.0,
        "kv_bytes": 100_000_000,
        "kv_peak_bytes": 110_000_000,
        "accepted_per_step": 1.0,
        "lossless": False,
        "max_new_tokens": 128,
        "answer_tokens": 128,
        "fidelity_tokens": 512,
    }
    return CompareRow(
        recipe=recipe, model="m", dtype="bfloat16", device="cpu", **(measured | values)
    )


def refused(recipe: str, reason: str, **values: Any) -> CompareRow:
    return CompareRow(
        recipe=recipe, model="m", dtype="bfloat16", device="cpu", refused=reason,
        **({"length": 8192, "question": "What is <it>?"} | values),
    )  # fmt: skip


FULL = row("full", lossless=True)
SMALL = row("snapkv(budget=25%)", agreement=0.95, kl=0.04, kv_bytes=25_000_000, tokens_per_s=40.0)
LOST = row("streaming(window=64)", agreement=0.99, needle_loss=9.0, kv_bytes=1_000_000)
COPYING = row("lookup", answer=SCRIPT + " & more " + "x" * 400, notes=("a <note>",))
REFUSED = refused("yarn + pi", f"two owners of a position {SCRIPT}")
ROWS = Comparison([FULL, SMALL, LOST, COPYING, REFUSED], "My <document>", 8192, ORIGIN)


def test_json_is_one_line_a_row_with_the_documented_fields() -> None:
    lines = ROWS.to_json().splitlines()
    assert len(lines) == len(ROWS)
    for line in lines:
        assert list(json.loads(line)) == [*FIELDS, *LATER]
    assert json.loads(lines[4])["refused"] == REFUSED.refused


def test_json_has_no_nan_and_says_what_was_one() -> None:
    strange = row("full", kl=math.inf, loss_by_position=[(1, math.nan)])
    values = json.loads(strange.to_json(), parse_constant=pytest.fail)
    assert values["kl"] is None
    assert values["loss_by_position"] == [[1, None]]
    assert "kl is inf" in values["notes"][0]


def test_a_band_that_is_no_number_is_written_as_null() -> None:
    bins = [{"start": 0, "stop": 9, "n": 9, "mean": math.inf, "error": None}]
    values = json.loads(row("full", loss_bins=bins).to_json(), parse_constant=pytest.fail)
    assert values["loss_bins"] == [bins[0] | {"mean": None}]


def test_every_field_is_documented() -> None:
    for field in fields(CompareRow):
        assert f"\n    {field.name}: " in (CompareRow.__doc__ or ""), field.name


def test_dataframe_has_a_column_per_field() -> None:
    pytest.importorskip("pandas")
    frame = ROWS.to_dataframe()
    assert list(frame["recipe"]) == [r.recipe for r in ROWS]
    assert list(frame.columns) == [*FIELDS, *LATER]
    assert list(Comparison().to_dataframe().columns) == list(frame.columns)


def test_rows_are_a_sequence_that_keeps_its_context() -> None:
    assert ROWS[1] is SMALL
    assert ROWS[:2].document == ROWS.document
    assert ROWS[:2].rows == [FULL, SMALL]
    assert not Comparison()


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


def test_the_pick_for_memory_is_small_and_keeps_the_needles() -> None:
    choice = ROWS.best(goal="memory")
    assert (choice.recipe, choice.goal) == (SMALL.recipe, "memory")
    assert "90%" in choice.why and "512 tokens" in choice.why and "100 MB" in choice.why


def test_without_a_goal_the_answer_is_the_trade_off() -> None:
    choice = ROWS.best()
    assert choice.recipe is None and choice.goal is None
    assert choice.front == ("full", SMALL.recipe, LOST.recipe)
    kept, small, lost = choice.reasons
    assert "keeps most" in kept and "loses nothing" in kept
    assert "soonest" in small and "40" not in small
    assert "smallest" in lost and "loses 8.00 nats" in lost
    assert all(recipe in choice.why for recipe in choice.front)


def test_a_recipe_as_large_as_full_is_never_picked_for_memory() -> None:
    faster = row("lookup", tokens_per_s=90.0)
    nearly = row("yarn(factor=2)", kv_bytes=97_000_000)
    choice = Comparison([FULL, faster, nearly], trained_length=8192).best(goal="memory")
    assert choice.recipe is None and "holds less than full" in choice.why
    # Beyond the trained length too, where full itself need not clear the bar.
    far = {"length": 32768, "agreement": None, "kl": None}
    rows = [row("full", copy_loss=7.0, **far), row("yarn(factor=4)", **far)]
    assert Comparison(rows, trained_length=8192).best(goal="memory").recipe is None
    assert Comparison(rows, trained_length=8192).best(goal="quality").recipe == "yarn(factor=4)"


def test_the_peak_that_is_as_large_as_full_is_said() -> None:
    assert "as much as full (110 MB)" in ROWS.best(goal="memory").why
    bounded = row("razor", kv_bytes=25_000_000, kv_peak_bytes=30_000_000)
    why = Comparison([FULL, bounded], trained_length=8192).best(goal="memory").why
    assert "as much as full" not in why


def test_speed_is_judged_on_the_answer_that_was_asked_for() -> None:
    short = {"max_new_tokens": 10}
    soon = row("infllm", ttft_s=5.0, tokens_per_s=10.0)
    rows = Comparison([FULL, soon], trained_length=8192)
    # 128 tokens: 10 + 127/20 = 16.35 s against 5 + 127/10 = 17.7 s; 10 tokens: 10.45 against 5.9.
    assert rows.best(goal="speed").recipe == "full"
    assert "none is faster than full" in rows.best(goal="speed").why
    brief = [row("full", **short), row("infllm", ttft_s=5.0, tokens_per_s=10.0, **short)]
    choice = Comparison(brief, trained_length=8192).best(goal="speed")
    assert choice.recipe == "infllm" and "10 tokens in 5.9 s" in choice.why


def test_a_pace_of_few_tokens_and_a_bar_that_is_close_are_named() -> None:
    brief = row("snapkv", tokens_per_s=90.0, answer_tokens=3, agreement=0.91,
                agreement_interval=(0.88, 0.93))  # fmt: skip
    why = Comparison([FULL, brief], trained_length=8192).best(goal="speed").why
    assert "rests on 3 tokens" in why and "between 88.0% and 93.0%" in why


def test_a_recipe_that_wrote_no_second_token_is_not_taken_for_the_soonest() -> None:
    mute = row("streaming", ttft_s=9.0, tokens_per_s=None, answer_tokens=0)
    rows = Comparison([FULL, mute], trained_length=8192)
    assert rows.best(goal="speed").recipe == "full"
    assert rows.best(goal="quality").recipe == "full"
    silent = [row(recipe, tokens_per_s=None, answer_tokens=0) for recipe in ("full", "h2o")]
    for goal in (None, "quality", "speed"):
        why = Comparison(silent, trained_length=8192).best(goal=goal).why
        assert "it wrote no second one" in why and "inf" not in why
    assert "soonest" not in Comparison(silent, trained_length=8192).best().why
    assert "it wrote no second one" in Comparison(silent, trained_length=8192).to_html()


def test_too_few_tokens_give_no_verdict() -> None:
    bare = {"copy_loss": None, "needle_loss": None, "fidelity_tokens": 24}
    rows = Comparison([row("full", **bare), row("snapkv", **bare)], trained_length=8192)
    for goal in (None, "quality", "speed", "memory"):
        assert rows.best(goal=goal).recipe is None
        assert "Only 24 tokens" in rows.best(goal=goal).why


def test_expected_answers_come_before_everything_else() -> None:
    right = row("infllm", expected_found=True, tokens_per_s=5.0)
    rows = Comparison([row("full", expected_found=False), right], trained_length=8192)
    assert rows.best(goal="quality").recipe == "infllm"
    assert rows.best(goal="speed").recipe == "infllm"
    assert "finds 100% of the expected answers" in rows.best(goal="quality").why


def test_a_goal_that_there_is_not_is_refused() -> None:
    with pytest.raises(LengthwiseError, match="allowed are quality, speed, memory"):
        ROWS.best(goal="cheapness")


def test_full_is_picked_when_nothing_beats_it() -> None:
    slower = row("kivi(bits=2)", tokens_per_s=10.0, kv_bytes=12_000_000)
    wrong = row("pi(factor=4)", agreement=0.5, kl=1.0, kv_bytes=12_000_000, tokens_per_s=99.0)
    same = row("lookup", tokens_per_s=20.2)
    rows = Comparison([FULL, slower, wrong, same, LOST], trained_length=8192)
    assert rows.best(goal="speed").recipe == "full"
    assert rows.best(goal="quality").recipe == "full"
    assert rows.best(goal="memory").recipe == slower.recipe
    assert "lookup" not in rows.best().front


def test_beyond_the_trained_length_the_probes_decide_and_may_cost_speed() -> None:
    far = {"length": 32768, "agreement": None, "kl": None}
    full = row("full", copy_loss=6.0, needle_loss=7.0, **far)
    keeps = row("self_extend(group=8)", tokens_per_s=12.0, **far)
    near = row("yarn(factor=4)", needle_loss=1.4, tokens_per_s=19.0, **far)
    rows = Comparison([full, keeps, near, FULL, SMALL], trained_length=8192)
    assert rows.best(goal="speed").recipe == "yarn(factor=4)"
    assert "not trained for" in rows.best(goal="speed").why
    assert rows.best(goal="quality").recipe == keeps.recipe
    assert rows.best(8192, "memory").recipe == SMALL.recipe


def test_no_pick_without_a_measurement() -> None:
    assert Comparison().best().recipe is None
    assert Comparison([REFUSED]).best().recipe is None
    bare = row("yarn", agreement=None, copy_loss=None, needle_loss=None)
    assert Comparison([bare]).best().recipe is None


def test_questions_of_one_recipe_are_averaged_for_the_pick() -> None:
    rows = Comparison([row("full", question=q, ttft_s=t) for q, t in (("a", 1.0), ("b", 3.0))])
    (merged,) = rows.at_length(8192)
    assert merged.ttft_s == 2.0
    assert merged.question is None and merged.answer is None


def test_origin_says_where_it_ran() -> None:
    here = Origin.here("lengthwise compare x.md")
    assert here.machine["cpu"] and "core" in here.machine["cores"]
    assert here.versions["python"] and set(here.versions) >= {"lengthwise", "torch", "transformers"}
    assert dict(here.lines())["Command"] == "lengthwise compare x.md"


def test_origin_says_how_many_threads_ran() -> None:
    before = torch.get_num_threads()
    try:
        for count, words in ((1, "1 thread"), (3, "3 threads")):
            torch.set_num_threads(count)
            here = Origin.here()
            assert here.machine["threads"] == words
            assert f", {words}, " in f"{dict(here.lines())['Machine']}, "
    finally:
        torch.set_num_threads(before)
