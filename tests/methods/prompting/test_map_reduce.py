"""map_reduce: notes of every part, and of notes until they fit."""

from __future__ import annotations

import pytest

from lengthwise.api.text_model import LocalText
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget
from lengthwise.methods.prompting.map_reduce import MapReduce
from lengthwise.methods.prompts import GAP
from lengthwise.testing.prompting import letters
from tests.methods.prompting.noting import Noting, facts

PARTS = ("It is AB here. ", "Nothing at all. ", "Now CD EF. ", "And GH too. ")
TEXT = "".join(PARTS)


def small(budget: int, chunk: int = 4, note: int = 2) -> MapReduce:
    return MapReduce(budget=Budget(budget), chunk=chunk, note=note)


def test_every_part_is_noted_and_the_notes_are_read() -> None:
    model = Noting(facts)
    found = small(8).write_prompt([TEXT], "which?", model)
    assert found.text == GAP.join(("AB", "CD EF", "GH")) and found.question == "which?"
    assert [text for text, _, _ in model.asked] == list(PARTS)
    assert all(asked.endswith("Question: which?") for _, asked, _ in model.asked)
    assert {size for _, _, size in model.asked} == {2}
    assert all(each.document is None for each in found.passages)


def test_notes_beyond_the_budget_become_notes_again() -> None:
    model = Noting(lambda text: text.replace(".", ""))
    found = small(3).write_prompt([TEXT], "which?", model)
    assert 0 < model.count(found.text) <= 3
    again = [text for text, asked, _ in model.asked if "notes on the parts" in asked]
    assert again[:2] == ["It is" + GAP + "Nothing at", "Now CD" + GAP + "And GH"]
    assert len(model.asked) == 4 + len(again)


def test_fewer_notes_use_the_budget_that_is_left() -> None:
    model = Noting(lambda text: text.replace(".", ""))
    MapReduce(budget=Budget(20), chunk=20, note=2).write_prompt([TEXT * 20], "which?", model)
    assert max(size for _, asked, size in model.asked if "notes on the parts" in asked) > 2


@pytest.mark.parametrize("told", ["NONE", "none. None!", "", "\n"])
def test_where_nothing_is_told_the_prompt_says_so(told: str) -> None:
    found = small(9).write_prompt([TEXT], "which?", Noting(lambda text: told))
    assert found.text == "The documents say nothing about it."


def test_notes_are_kept_where_nothing_is_written_of_them() -> None:
    model = Noting(lambda text: "AB CD" if "." in text else "NONE")
    assert small(3).write_prompt([TEXT], "which?", model).text.startswith("AB CD")


def test_documents_are_noted_apart_and_blank_ones_left_out() -> None:
    model = Noting(facts)
    small(4, chunk=40).write_prompt(["AB. ", " \n", "CD EF GH IJ. "], "which?", model)
    assert [text for text, _, _ in model.asked] == ["AB. ", "CD EF GH IJ. "]


def test_nothing_is_asked_where_all_fits() -> None:
    model = Noting(facts)
    assert small(99).write_prompt([TEXT], "which?", model).text == TEXT and not model.asked


def test_what_cannot_run_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"chunk=9 does not hold two such notes.* give note=4"):
        small(9, chunk=9, note=5)
    with pytest.raises(Refused, match="a part and a note are 6 tokens and the instruction"):
        small(9).write_prompt([TEXT], "which?", Noting(facts, trained_length=20))
    with pytest.raises(RecipeError, match=r"allowed is tokens \(2048\) or a share"):
        MapReduce(budget=Budget(1, "KB"))


@pytest.mark.parametrize("document", ["x" * 90, "é 😀. Ünï!\r\n" * 9, "no end " * 12])
def test_a_real_model_takes_notes_of_any_text(document: str) -> None:
    model = LocalText(letters())
    method = MapReduce(budget=Budget(40), chunk=32, note=8)
    found = method.write_prompt([document, ""], "Где кран?", model)
    assert 0 < model.count(found.text) <= 40 and model.tokens_read > len(document)
