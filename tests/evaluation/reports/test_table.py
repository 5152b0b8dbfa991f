"""The terminal table loses nothing at any width, says what is better, and marks its cells."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from lengthwise.evaluation.compare.results import Comparison
from lengthwise.evaluation.metrics.drafting_rows import Divergence, DraftingRow, DraftingRows
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.row import CompareRow
from lengthwise.evaluation.reports import drafting_table
from lengthwise.evaluation.reports.answers import from_difference
from lengthwise.evaluation.reports.columns import COLUMNS, COSTS, QUALITY, SOMETIMES
from lengthwise.evaluation.reports.table import MOST_SHOWN, folded

WIDTHS = (40, 60, 80, 100, 160)
LONG = "yarn(factor=2) + infllm(block=64) + kivi(bits=4) + lookup"
SAYS = "This is the language reference of Python, which describes its syntax and its core semantics"


def row(recipe: str, question: str = "What is it?", **values: Any) -> CompareRow:
    number = sum(map(ord, recipe)) % 89 / 100
    measured: dict[str, Any] = {
        "question": question, "answer": f"{SAYS}.", "agreement": 0.9 + number / 10,
        "agreement_interval": (0.861, 0.993), "kl": 0.01 + number, "kl_error": 0.004,
        "copy_loss": 7.1 + number, "needle_loss": 1.3 + number, "ttft_s": 13.4 + number,
        "tokens_per_s": 33.2 + number, "kv_bytes": 215_900_000, "kv_peak_bytes": 216_700_000,
        "accepted_per_step": 1.0 + number, "lossless": False, "fidelity_tokens": 512,
        "fidelity_length": 4096, "max_new_tokens": 64, "answer_tokens": 20,
    }  # fmt: skip
    return CompareRow(recipe=recipe, model="m", dtype="bfloat16", device="cpu", length=9216,
               **(measured | values))  # fmt: skip


FULL = row("full", lossless=True, agreement=1.0, agreement_interval=None, kl_error=None)
LEFT = row("lookup", lossless=True, same_text=False, answer=f"{SAYS} — in short.")
COMBINED = row(LONG, answer="Something else.\nOn two lines.", notes=("a note of one",))
REFUSED = CompareRow(recipe="yarn + pi", model="m", dtype="bfloat16", device="cpu", length=9216,
              question="What is it?",
              refused="both decide where tokens stand; choose one")  # fmt: skip
ROWS = Comparison([FULL, row("snapkv(budget=25%, window=8, kernel=31)"), LEFT, COMBINED, REFUSED],
            origin=Origin({"cpu": "A CPU", "cores": "2 cores", "threads": "1 thread"}))  # fmt: skip


def printed(rows: Comparison, width: int, full: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(rows.table(full))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def together(text: str) -> str:
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_lost_at_any_width(width: int) -> None:
    text = printed(ROWS, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("…") == together(text).count("(asabove)…") == 1
    full = ROWS[0]
    for each in ROWS:
        if each.refused is not None:
            assert together(each.refused) in together(text)
            continue
        for column in (*COLUMNS, *SOMETIMES):
            shown = column.text(each, full)
            assert not column.value(each, full) or shown in text, column.head
            assert column.spread(each) in text
    # Names may be folded; every part of them stands in some line.
    for part in ("infllm", "(block=64)", "window=8", "kernel=31)", "lookup"):
        assert part in text


@pytest.mark.parametrize("width", WIDTHS)
def test_columns_carry_the_names_of_json_and_say_what_is_better(width: int) -> None:
    text = together(printed(ROWS, width))
    fields = ROWS[0].to_dict()
    for column in (*COLUMNS, *SOMETIMES):
        assert column.head in fields
        if column.value(ROWS[0], ROWS[0]) is not None:
            better = "more" if column.better == "high" else "less"
            assert together(column.title) + f";{better}isbetter" in text


def test_a_column_says_which_way_is_better() -> None:
    better = {column.head: column.better for column in (*COLUMNS, *SOMETIMES)}
    assert {name for name, way in better.items() if way == "high"} == {
        "agreement", "tokens_per_s", "accepted_per_step", "expected_found", "exact_match",
        "token_f1", "evidence_recall", "evidence_precision", "evidence_iou", "evidence_omega",
    }  # fmt: skip


def test_many_questions_stand_in_one_table_of_means() -> None:
    many = [
        replace(each, question=f"Question {n}?", evidence_recall=n % 2)
        for n in range(MOST_SHOWN + 1) for each in ROWS[:3]
    ]  # fmt: skip
    text = printed(Comparison(many), 160)
    assert f"{MOST_SHOWN + 1} questions" in text and "Question 3?" not in text
    assert text.count("evidence_recall (%)") == 1 and f"{100 * 4 / 9:.0f}" in text
    few = printed(Comparison(many[: 3 * MOST_SHOWN]), 160)
    assert "Question 3?" in few


def test_quality_stands_once_and_costs_once_a_question() -> None:
    twice = [replace(each, question=q) for q in ("What is it?", "Who wrote it?") for each in ROWS]
    text = printed(Comparison(twice), 160)
    table = text[: text.index("What the columns say")]
    assert (
        table.count("agreement  ") == 1 or table.count("agreement") == 2
    )  # the head, the line above
    assert table.count("needle_") == 2  # the head, and the line above it
    assert table.count("ttft_s") == 2
    assert table.count("What is it?") == table.count("Who wrote it?") == 1
    assert text.count("both decide where tokens stand") == 1
    assert text.count("a note of one") == 1
    assert {column.head for column in QUALITY}.isdisjoint(column.head for column in COSTS)


def test_a_note_of_one_question_stands_under_it() -> None:
    rows = Comparison([row("full", "One?", notes=("only the first", "of both")),
                 row("full", "Two?", notes=("of both",))])  # fmt: skip
    text = printed(rows, 100)
    assert text.index("One?") < text.index("only the first") < text.index("Two?")
    assert text.index("of both") > text.index("Two?") and text.count("of both") == 1


def test_figures_of_another_text_are_marked_where_they_stand() -> None:
    text = printed(ROWS, 160)
    line = next(line for line in text.splitlines() if line.startswith("lookup") and "216.7" in line)
    full = next(line for line in text.splitlines() if line.startswith("full") and "216.7" in line)
    assert line.count("*") == 4  # the speed, its ratio, tokens a step, and lossless
    assert "yes*" in line and "*" not in full
    same = printed(Comparison([FULL, replace(LEFT, same_text=True)]), 160)
    assert "*" not in same[: same.index("What the columns say")]


def test_answers_that_are_alike_are_named_together_and_others_from_where_they_leave() -> None:
    text = printed(ROWS, 100)
    assert "full, snapkv(budget=25%, window=8, kernel=31)\n  This is" in text
    assert "(as above) … syntax and its core semantics — in short." in text
    assert "  Something else.\n  On two lines.".replace("\n", "") in re.sub(r" *\n", "", text)
    assert printed(ROWS, 100, full=True).count("This is the language reference") == 2


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("a different one", "a different one"),
        (SAYS, SAYS),
        (SAYS + " of 3.12.", "(as above) … syntax and its core semantics of 3.12."),
        (SAYS[:30] + "x" * 900, SAYS[:30] + "x" * 900),
    ],
)
def test_an_answer_is_shown_from_its_difference_and_never_cut(answer: str, shown: str) -> None:
    first = SAYS + ". Its second sentence."
    assert from_difference(answer, first) == shown or answer == SAYS


def test_names_are_folded_between_methods() -> None:
    assert folded(
        "yarn(factor=2) + infllm + lookup", 24
    ) == "yarn(factor=2) + infllm\n+ lookup" or (
        folded("yarn(factor=2) + infllm + lookup", 24) == "yarn(factor=2) +\ninfllm + lookup"
    )
    assert folded("streaming(window=128)", 20) == "streaming\n(window=128)"
    assert folded("full", 3) == "full"


def test_threads_stand_beside_the_machine() -> None:
    assert "Machine: A CPU, 2 cores, 1 thread" in printed(ROWS, 100)


def test_the_drafting_table_marks_figures_of_other_texts() -> None:
    base = DraftingRow(
        kind="code", context="short", context_tokens=768, recipe="lookup", plain="full", model="m",
        dtype="bfloat16", device="cpu", prompts=5, rounds=1, new_tokens=64, tables="cold",
        tokens=300, tokens_per_s=71.5, ratio=1.62, equal=True,
    )  # fmt: skip
    left = replace(base, kind="chat", tokens_per_s=82.5, ratio=1.87, equal=False,
                   divergences=(Divergence("chat/a", 3, 0.0),))  # fmt: skip
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(drafting_table.report(DraftingRows((base, left), Origin())))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "82.5*" in text and "1.87*" in text and "4/5" in text
    assert "71.5*" not in text and "71.5" in text
    assert "* some of these texts" in text
