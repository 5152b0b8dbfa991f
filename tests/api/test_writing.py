"""`lengthwise.write`: what may be given, what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lengthwise
from lengthwise.api.text_model import LocalText
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.testing.prompting import letters
from tests.workflows.text_models import Words

PLAN = "1. Harbours (100 words)\n2. Ships (300 words)"


def test_a_text_has_its_plan_its_parts_and_notes() -> None:
    said: list[str] = []
    pieces: list[str] = []
    found = lengthwise.write(
        Words(), "Write of ships.", 400, plan=PLAN, stream=pieces.append, note=said.append
    )
    assert [(part.point, part.words) for part in found.plan] == [("Harbours", 100), ("Ships", 300)]
    assert found.asked == 400 and abs(found.words - 400) < 10 and len(found.parts) == 2
    assert "".join(pieces).split() == found.text.split()
    assert found.notes == tuple(said) == () and found.before == 0
    scaled = lengthwise.write(Words(), "Write of ships.", 800, plan=PLAN)
    assert [part.words for part in scaled.plan] == [200, 600] and "scaled" in scaled.notes[0]


def test_a_model_of_ours_writes_the_same_text_again(tmp_path: Path) -> None:
    options: dict[str, Any] = {"temperature": 0.8, "seed": 3}
    model = letters()
    found = lengthwise.write(model, "Hi.", 5, recipe="lookup", **options)
    assert len(found.parts) == 1 and found.text.strip()
    assert lengthwise.write(model, "Hi.", 5, recipe="lookup", **options).text == found.text
    other = lengthwise.write(LocalText(model), "Hi.", 5, temperature=0.8, seed=4)
    assert other.text != found.text
    kept = lengthwise.write(model, "Hi.", 5, recipe="lookup", out=tmp_path / "a.md", **options)
    assert (tmp_path / "a.md").read_text() == kept.text == found.text
    with pytest.raises(LengthwiseError, match="belongs to recipe 'lookup'"):
        lengthwise.write(model, "Hi.", 5, out=tmp_path / "a.md", **options)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"instruction": " "}, "instruction=' ': give a text"),
        ({"instruction": None}, "instruction=None"),
        ({"words": 0}, "words=0: give a whole number, 1 to 50,000"),
        ({"words": -5}, "words=-5"),
        ({"words": 50_001}, "words=50001.*50 parts of 1,000"),
        ({"words": 12.5}, "words=12.5"),
        ({"words": True}, "words=True"),
        ({"plan": ""}, "the plan has no part that can be read; write a line a part"),
        ({"plan": "1. One", "words": 3000}, "the plan has 1 parts for 3,000 words; give 3 to 50"),
        ({"part_words": 5}, "part_words=5"),
        ({"repeats": -1}, "repeats=-1"),
        ({"recipe": "nope"}, "nope"),
        ({"temperature": -1}, "temperature=-1"),
        ({"out": "no/such/folder/x"}, "there is no folder"),
    ],
)
def test_what_is_wrong_is_said_before_a_word_is_written(given: dict[str, Any], words: str) -> None:
    model = Words()
    options: dict[str, Any] = {"instruction": "Write.", "words": 400, **given}
    with pytest.raises(LengthwiseError, match=words):
        lengthwise.write(model, **options)
    assert not model.asked


@pytest.mark.parametrize("recipe", ["bm25", "bm25(budget=64) + kivi", "ape"])
def test_a_recipe_for_documents_is_refused(recipe: str) -> None:
    with pytest.raises(Refused, match="is for documents, and here prompts come whole"):
        lengthwise.write(letters(), "Write.", 5, recipe=recipe)


def test_what_is_no_model_is_refused() -> None:
    for wrong in (None, "name", 5):
        with pytest.raises(LengthwiseError, match="is no model: give one of lengthwise.load"):
            lengthwise.write(wrong, "Write.", 5)  # type: ignore[arg-type]
