"""jrt: documents and question, and then both again."""

from __future__ import annotations

import pytest

import lengthwise
from lengthwise.api.text_model import LocalText
from lengthwise.errors import RecipeError
from lengthwise.methods.prompting.jrt import JRT
from lengthwise.methods.prompts import GAP
from lengthwise.testing.prompting import letters

DOCUMENTS = ["A red é crane.\r\n", "", "No end 😀"]


def test_documents_are_read_twice_with_the_question_between() -> None:
    found = JRT().write_prompt(DOCUMENTS, "Wer?", LocalText(letters()))
    once = GAP.join(DOCUMENTS)
    assert found.text == once + GAP + "Wer?" + GAP + once and found.question == "Wer?"
    assert [each.document for each in found.passages] == [0, 1, 2, None, 0, 1, 2]


def test_once_is_the_documents_and_more_is_more() -> None:
    once = GAP.join(DOCUMENTS)
    assert JRT(times=1).write_prompt(DOCUMENTS, "q", LocalText(letters())).text == once
    found = JRT(times=3).write_prompt(["a"], "q", LocalText(letters())).text
    assert found == GAP.join("aqaqa")
    assert JRT(times=2).write_prompt([""], "q", LocalText(letters())).text == GAP + "q" + GAP


def test_no_forward_runs_on_the_way() -> None:
    model = LocalText(letters())
    JRT().write_prompt(DOCUMENTS, "q", model)
    assert model.tokens_read == 0


def test_an_answer_reads_twice_and_counts_it() -> None:
    once = lengthwise.answer(letters(), "A red crane.", "Who?", "full", max_new_tokens=1)
    twice = lengthwise.answer(letters(), "A red crane.", "Who?", "jrt", max_new_tokens=1)
    more = len("A red crane." + "Who?" + 2 * GAP)
    assert twice.metrics.tokens_read == once.metrics.tokens_read + more
    assert [each.text for each in twice.sources] == ["A red crane.", "Who?", "A red crane."]


@pytest.mark.parametrize("times", [0, -1, 17])
def test_settings_that_make_no_sense_are_refused(times: int) -> None:
    with pytest.raises(RecipeError, match="times"):
        JRT(times=times)
