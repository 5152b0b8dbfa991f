"""refine: notes that are brought up to date with every part."""

from __future__ import annotations

import pytest

from lengthwise.api.text_model import LocalText
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget
from lengthwise.methods.prompting.refine import Refine
from lengthwise.testing.prompting import letters
from tests.methods.prompting.noting import Noting, facts

PARTS = ("Not here now. ", "It is AB here. ", "Nothing at all. ", "Now CD EF. ")
TEXT = "".join(PARTS)


def test_notes_are_shown_with_the_next_part() -> None:
    model = Noting(facts)
    method = Refine(budget=Budget(9), chunk=4, note=3)
    found = method.write_prompt([TEXT], "which?", model)
    assert found.text == "AB CD EF" and found.question == "which?"
    assert [text for text, _, _ in model.asked[:2]] == list(PARTS[:2])
    assert model.asked[2][0] == f"Notes so far:\nAB\n\nThe next part of the text:\n{PARTS[2]}"
    told = [asked.partition(".")[0] for _, asked, _ in model.asked]
    assert (
        told
        == ["Above is the first part of a longer text"] * 2
        + ["Above are notes on a text and its next part"] * 2
    )
    assert all(asked.endswith("Question: which?") for _, asked, _ in model.asked)


def test_a_part_that_says_nothing_leaves_the_notes() -> None:
    model = Noting(lambda text: "AB" if "AB here" in text else "NONE")
    found = Refine(budget=Budget(9), chunk=4, note=3).write_prompt([TEXT, " \n"], "q", model)
    assert found.text == "AB" and len(model.asked) == 4
    found = Refine(budget=Budget(9), chunk=4).write_prompt([TEXT], "q", Noting(lambda text: "none"))
    assert found.text == "The documents say nothing about it."


def test_notes_fit_the_budget() -> None:
    model = Noting(lambda text: "AB " * 20)
    found = Refine(budget=Budget(5), chunk=4, note=30).write_prompt([TEXT], "q", model)
    assert found.text == "AB AB AB AB AB" and {size for _, _, size in model.asked} == {5}


def test_nothing_is_asked_where_all_fits() -> None:
    model = Noting(facts)
    assert Refine(budget=Budget(99)).write_prompt([TEXT], "q", model).text == TEXT
    assert not model.asked


def test_what_cannot_run_is_refused() -> None:
    with pytest.raises(Refused, match="a part, its notes and those before are 10 tokens"):
        Refine(budget=Budget(9), chunk=4, note=3).write_prompt([TEXT], "q", Noting(facts, 30))
    with pytest.raises(RecipeError, match=r"allowed is tokens \(2048\) or a share"):
        Refine(budget=Budget(1, "KB"))


@pytest.mark.parametrize("document", ["x" * 90, "é 😀. Ünï!\r\n" * 9, "no end " * 12])
def test_a_real_model_takes_notes_of_any_text(document: str) -> None:
    model = LocalText(letters())
    method = Refine(budget=Budget(40), chunk=32, note=8)
    found = method.write_prompt([document, ""], "Где кран?", model)
    assert 0 < model.count(found.text) <= 40 and model.tokens_read > len(document)
