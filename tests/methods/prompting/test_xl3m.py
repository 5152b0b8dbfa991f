"""xl3m: the segments behind which an answer is surest."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from lengthwise.api.text_model import LocalText
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget
from lengthwise.methods.prompting.xl3m import XL3M
from lengthwise.testing.prompting import letters

TEXT = "Aaa bbb. Ccc BO ddd. Eee fff. Ggg BO BO. "


class Sure:
    """Words are tokens; the surer of its answer the more often BO stands in the text."""

    name, trained_length = "sure", 16

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\S+\s*|\s+", text)]

    def count(self, text: str) -> int:
        return len(self.spans(text))

    def write(self, text: str, question: str, max_new_tokens: int) -> str:
        return ""

    def foretell(self, text: str, question: str, tokens: int, plain: bool = False) -> Tensor:
        self.asked.append((text, question, tokens))
        logits = torch.zeros(tokens, 4)
        logits[-1, 0] = text.count("BO")
        return torch.log_softmax(logits, -1)

    def losses(self, text: str) -> Tensor:
        return torch.zeros(self.count(text))


def test_the_surest_segments_are_read_in_their_order() -> None:
    model = Sure()
    found = XL3M(budget=Budget(6), segment=3).write_prompt([TEXT], "q?", model)
    assert found.text == "Ccc BO ddd. \n\nGgg BO BO. " and found.question == "q?"
    found = XL3M(budget=Budget(3), segment=3).write_prompt([TEXT], "q?", model)
    assert found.text == "Ggg BO BO. "


def test_every_segment_is_asked_alone_about_the_question() -> None:
    model = Sure()
    XL3M(budget=Budget(6), segment=3, tokens=2).write_prompt([TEXT, TEXT], "q?", model)
    assert "".join(text for text, _, _ in model.asked) == TEXT + TEXT
    assert {(question, tokens) for _, question, tokens in model.asked} == {("q?", 2)}


def test_nothing_is_asked_where_all_fits() -> None:
    model = Sure()
    assert XL3M(budget=Budget(99)).write_prompt([TEXT], "q?", model).text == TEXT
    assert not model.asked


def test_a_segment_beyond_the_trained_length_is_refused() -> None:
    with pytest.raises(Refused, match="more than the 16 tokens that sure was trained to read"):
        XL3M(budget=Budget(3), segment=15).write_prompt([TEXT], "how so?", Sure())


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RecipeError, match="segment"):
        XL3M(segment=0)
    with pytest.raises(RecipeError, match="tokens"):
        XL3M(tokens=0)
    with pytest.raises(RecipeError, match=r"allowed is tokens \(2048\) or a share"):
        XL3M(budget=Budget(1, "KB"))


@pytest.mark.parametrize("document", ["x" * 90, "é 😀. Ünï!\r\n" * 9, "no end " * 12])
def test_a_real_model_is_asked_about_any_text(document: str) -> None:
    model = LocalText(letters())
    found = XL3M(budget=Budget(40), segment=20).write_prompt([document, ""], "Где кран?", model)
    assert 0 < len(found.text) <= 40 and model.tokens_read > len(document)
