"""llmlingua: what the model could have guessed is dropped."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.api.text_model import LocalText
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget
from lengthwise.methods.prompting.llmlingua import LLMLingua, _phrases
from lengthwise.methods.prompts import PromptText
from lengthwise.testing.prompting import letters


class Capitals:
    """A token is a word with the space behind it; capitals and digits surprise it, 3 nats each."""

    name, trained_length = "capitals", 64

    def __init__(self) -> None:
        self.scored: list[str] = []

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\w+\s*|[^\w\s]+\s*|\s+", text)]

    def count(self, text: str) -> int:
        return len(self.spans(text))

    def write(self, text: str, question: str, max_new_tokens: int) -> str:
        return ""

    def foretell(self, text: str, question: str, tokens: int) -> Tensor:
        return torch.zeros(tokens, 2)

    def losses(self, text: str) -> Tensor:
        self.scored.append(text)
        found = [3.0 * len(re.findall("[A-Z0-9]", text[a:b])) + 0.1 for a, b in self.spans(text)]
        return torch.tensor([0.0, *found[1:]])


TEXT = "so it is the KEY of 42 doors. and so it goes on. the BOX is here."


def write(text: str, tokens: int, **options: Any) -> PromptText:
    found = LLMLingua(budget=Budget(tokens), segment=64, **options).write_prompt(
        [text], "what?", Capitals()
    )
    for each in found.passages:
        assert text[each.start : each.stop] == each.text
    return found


@pytest.mark.parametrize(
    ("unit", "tokens", "expected"),
    [
        ("token", 2, "KEY BOX "),
        ("token", 3, "KEY 42 BOX "),
        ("phrase", 2, "KEY BOX "),
        ("phrase", 5, "KEY 42 doors. BOX "),
        ("sentence", 5, "the BOX is here."),
        ("sentence", 14, "so it is the KEY of 42 doors. the BOX is here."),
    ],
)
def test_what_surprises_most_is_kept_in_its_order(unit: str, tokens: int, expected: str) -> None:
    # A dot belongs to the phrase that it ends.
    found = write(TEXT, tokens, unit=unit).text
    assert found == expected


def test_a_unit_beyond_the_budget_is_cut() -> None:
    assert write(TEXT, 2, unit="sentence").text in ("so it ", "the BOX ")


def test_phrases_end_at_stop_words_signs_and_lines() -> None:
    lines = "red crane of Bo's dock, AB\nnext"
    assert write(lines, 1).text == "AB\n"
    assert write("old Bo's X, it is", 6, language="xx").text == "old Bo's X, "


def test_phrases_end_at_no_mark_within_a_word() -> None:
    assert _phrases("हिन्दी में cafe\u0301 x", frozenset()) == set()
    # A decomposed stop word is one, too, and a phrase ends before it and behind it.
    text = "Paris e\u0301te\u0301 Rome"
    assert _phrases(text, frozenset({"été"})) == {6, text.index("Rome")}


def test_the_first_token_has_no_loss_and_counts_for_nothing() -> None:
    # KEY is a segment's first token: its unit has the loss of what follows in it.
    assert write("KEY. of a BOX. so", 2).text == "BOX. "
    assert write("KEY", 5).text == "KEY"


def test_all_of_the_text_is_scored_in_segments() -> None:
    model = Capitals()
    LLMLingua(budget=Budget(5), segment=9).write_prompt([TEXT, TEXT], "q", model)
    assert "".join(model.scored) == TEXT + TEXT
    assert all(model.count(each) <= 9 for each in model.scored) and len(model.scored) > 2


def test_nothing_is_scored_where_all_fits() -> None:
    model = Capitals()
    assert LLMLingua(budget=Budget(99)).write_prompt([TEXT], "q", model).text == TEXT
    assert not model.scored


def test_what_cannot_run_is_refused() -> None:
    with pytest.raises(Refused, match="a segment is more than the 64 tokens"):
        LLMLingua(budget=Budget(5), segment=65).write_prompt([TEXT], "q", Capitals())
    with pytest.raises(RecipeError, match=r"allowed is tokens \(2048\) or a share"):
        LLMLingua(budget=Budget(1, "KB"))
    with pytest.raises(RecipeError, match="unit"):
        LLMLingua(unit="word")
    with pytest.raises(RecipeError, match="segment"):
        LLMLingua(segment=1)


@pytest.mark.parametrize("unit", ["token", "phrase", "sentence"])
@pytest.mark.parametrize(
    "text",
    ["x" * 90, "é 😀. Ünï!\r\n" * 9, "no end " * 12, "\n" * 80, "def f(x):\n  y\n" * 7],
)
def test_a_real_model_scores_any_text(text: str, unit: str) -> None:
    model = LocalText(letters())
    method = LLMLingua(budget=Budget(30), segment=50, unit=unit)
    found = method.write_prompt([text, "", "a"], "Где?", model)
    assert 0 < len(found.text) <= 30 and model.tokens_read >= len(text)
