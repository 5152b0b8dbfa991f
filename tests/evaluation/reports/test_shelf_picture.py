"""The picture of the shelf: a row of charts a question, of what was measured."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from lengthwise._utils.outputs import PICTURE
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.shelf_rows import ShelfRows
from lengthwise.evaluation.reports.shelf_picture import draw, needs_matplotlib
from tests.evaluation.shelf_runs import full_row, made_row

ROWS = ShelfRows([
    full_row(), made_row("snapkv(budget=50%)", share=0.5, kv_bytes=500, kl=0.0),
    made_row("snapkv(budget=25%)"), made_row("razor", refused="no", kl=None),
    made_row("quest(budget=25%)", question="selection", read=0.25),
])  # fmt: skip


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_picture_is_written_and_known_as_ours(tmp_path: Path, suffix: str) -> None:
    place = tmp_path / f"shelf{suffix}"
    draw(ROWS, place)
    assert PICTURE.ours(place)


def test_methods_and_questions_are_named(tmp_path: Path) -> None:
    place = tmp_path / "shelf.svg"
    draw(ROWS, place)
    text = place.read_text()
    # matplotlib draws letters as shapes and notes what it drew.
    for word in ("selection", "retention", "snapkv", "quest", "KL to full"):
        assert f"<!-- {word}" in text
    assert "<!-- razor" not in text


def test_without_a_figure_there_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(LengthwiseError, match="no method has a figure"):
        draw(ShelfRows([full_row()]), tmp_path / "shelf.png")
    assert not (tmp_path / "shelf.png").exists()


def test_matplotlib_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    own = builtins.__import__

    def none(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return own(name, *rest, **more)

    needs_matplotlib("--picture")
    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(LengthwiseError, match="--picture needs matplotlib: pip install"):
        needs_matplotlib("--picture")
