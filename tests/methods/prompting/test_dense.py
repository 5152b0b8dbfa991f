"""dense: the passages whose vectors are nearest to the question's."""

from __future__ import annotations

import pytest

from lengthwise.api.text_model import LocalText
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget
from lengthwise.methods.prompting.dense import Dense
from lengthwise.retrieval.dense import vector_scores
from lengthwise.testing.prompting import letters

TEXT = "".join(f"Ship {n} left. " for n in range(9)) + "WHO IS BO? " + "Nobody came again. " * 9


def test_the_passage_that_says_the_same_is_read() -> None:
    method = Dense(budget=Budget(14), passage=11, encoder=Dense.example().encoder)
    found = method.write_prompt([TEXT], "WHO IS BO?", LocalText(letters()))
    assert found.text.startswith("WHO IS BO?") and found.question == "WHO IS BO?"
    assert all(TEXT[each.start : each.stop] == each.text for each in found.passages)


def test_scores_are_cosines() -> None:
    scores = vector_scores(["abc", "xyz", ""], "abc", Dense.example().encoder)
    assert scores[0] == pytest.approx(1.0, abs=1e-5) and scores.argmax() == 0
    assert all(-1.001 <= score <= 1.001 for score in scores.tolist())


@pytest.mark.parametrize("text", ["x" * 300, "no end " * 40, "😀 é. 你好。\r\n" * 20, "\n" * 200])
def test_any_text_is_cut_to_the_budget(text: str) -> None:
    method = Dense(budget=Budget(30), passage=16, encoder=Dense.example().encoder)
    assert 0 < len(method.write_prompt([text, ""], "Где?", LocalText(letters())).text) <= 30


def test_what_cannot_run_is_refused() -> None:
    model = LocalText(letters())
    with pytest.raises(Refused, match="compares vectors, and no encoder is given"):
        Dense(budget=Budget(9)).write_prompt([TEXT], "q", model)
    with pytest.raises(RecipeError, match="encoder=/nowhere: this is no folder of an encoder"):
        Dense(budget=Budget(9), encoder="/nowhere").write_prompt([TEXT], "q", model)
    with pytest.raises(RecipeError, match=r"allowed is tokens \(2048\) or a share"):
        Dense(budget=Budget(1, "KB"))
