"""The shelf as a table and as markdown, and beside another library's."""

from __future__ import annotations

import io

from lengthwise.evaluation.metrics.shelf_rows import ShelfRow, ShelfRows
from lengthwise.evaluation.reports.shelf_table import against, markdown, show
from tests.evaluation.shelf_runs import full_row, made_row

ROWS = ShelfRows(
    [
        full_row(),
        made_row("snapkv(budget=25%)", kl=0.25),
        made_row("streaming(window=246)", kl=0.75, kv_bytes=300),
        made_row("quest(budget=25%)", question="selection", kv_bytes=1002, read=0.31),
        made_row("int8", question="codecs", share=0.5, refused="it does not fit", kl=None),
    ],
    without=("minference",),
    broken={"theirs": "no module"},
)


def shown(rows: ShelfRows) -> str:
    out = io.StringIO()
    show(rows, file=out)
    return out.getvalue()


def test_a_table_fits_100_columns_and_has_a_block_a_question() -> None:
    text = shown(ROWS)
    assert max(map(len, text.splitlines())) <= 100
    places = [text.index(f"\n{question}\n") for question in ("retention", "selection", "codecs")]
    assert places == sorted(places)
    assert text.index("snapkv") < text.index("streaming")


def line_of(text: str, recipe: str) -> str:
    return next(line for line in text.splitlines()[1:] if recipe in line)


def test_what_differs_from_the_budget_is_marked_where_it_is_measured() -> None:
    text = shown(ROWS)
    assert "25.0 " in line_of(text, "snapkv") and "!" not in line_of(text, "snapkv")
    assert "30.0!" in line_of(text, "streaming")
    assert "31.0!" in line_of(text, "quest(") and "100.2 " in line_of(text, "quest(")


def test_loss_is_told_over_that_of_full() -> None:
    assert " 0.500 " in line_of(shown(ROWS), "snapkv")


def test_refusals_and_what_is_not_on_the_shelf_are_said() -> None:
    text = " ".join(shown(ROWS).split())
    assert "int8: refused: it does not fit" in text
    assert "No setting for a share, and so not here: minference." in text
    assert "theirs cannot be loaded: no module" in text
    assert "Nothing has been measured" in shown(ShelfRows())


def test_markdown_has_a_table_a_question() -> None:
    text = markdown(ROWS)
    assert text.count("| full |") == 3
    assert "| 25 | `snapkv(budget=25%)` | 25.0 |" in text and "### selection" in text
    assert "Nothing has been measured" in markdown(ShelfRows())


def peer(recipe: str, **values: object) -> ShelfRow:
    own = {"engine": "kvpress 1", "method": recipe.partition(" ")[0]}
    return made_row(recipe, **(own | values))


def test_ours_stand_beside_theirs_with_a_word_on_which_is_closer() -> None:
    theirs = [peer("snapkv at 0.25", kl=0.26), peer("streaming at 0.25", kl=0.5),
              peer("snapkv at 0.5", kl=0.1, share=0.5), peer("full (sdpa)", method="", kl=0.0),
              peer("snapkv at 0.25", text="another", kl=9.0)]  # fmt: skip
    text = against(ROWS.rows, theirs)
    assert "| even |" in line_of(text, "`snapkv at 0.25`")
    assert "| worse with us |" in line_of(text, "`streaming at 0.25`")
    assert line_of(text, "`snapkv at 0.5`").endswith("|  |") and "9.0" not in text
    better = against(ROWS.rows, [peer("snapkv at 0.25", kl=0.4)])
    assert "| better with us |" in line_of(better, "`snapkv at 0.25`")
    assert "quest(" not in text


def test_rows_of_another_setting_are_no_comparison() -> None:
    assert "no rows of the same" in against(ROWS.rows, [peer("snapkv", dtype="bfloat16")])
    assert "no rows of the same" in against([], [peer("snapkv")])
