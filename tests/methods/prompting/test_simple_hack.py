"""simple_hack: cleaned text, cut at a budget."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.api.text_model import LocalText
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Budget
from lengthwise.methods.prompting.simple_hack import SimpleHack
from lengthwise.methods.prompts import GAP, PromptText
from lengthwise.testing.prompting import letters

TEXT = "The harbour of Aldby has two piers. Dr. Ames counts the ships there, e.g. a Heron."
CLEAN = "harbour Aldby has two piers. Dr. Ames counts ships, e.g. Heron."


def write(documents: list[str], **options: Any) -> PromptText:
    found = SimpleHack(**options).write_prompt(documents, "what?", LocalText(letters()))
    for each in found.passages:
        assert each.document is not None
        assert documents[each.document][each.start : each.stop] == each.text
    return found


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (TEXT, {}, CLEAN),
        (TEXT, {"stop_words": True}, TEXT),
        (TEXT, {"punctuation": False}, CLEAN.replace(". ", " ").replace(",", "")[:-1]),
        ("(the ship) \"the\" 3.5 a\r\nof b, well-known", {}, '(ship) "" 3.5\r\nb, well-known'),
        ("(the ship) 3.5, $4 – x\r\nof b", {"punctuation": False}, "ship 3.5 $4 x\r\nb"),
        ("Bo saw Bo. bo ran", {"recurring": False}, "Bo saw. ran"),
        ("Bo saw bo run", {"rare": 2}, "Bo bo"),
        ("It's Ann's; the a\u0300 😀 to Ünï", {}, "It's Ann's; a\u0300 😀 Ünï"),
        ("der Kran und das Schiff", {"language": "de"}, "Kran Schiff"),
        ("Кран и корабль", {"language": "ru"}, "Кран корабль"),
        ("the हिन्दी में, x", {"punctuation": False}, "हिन्दी में x"),
        ("की कि की", {"recurring": False}, "की कि"),
        ("A\u0300 Paris", {"language": "fr"}, "Paris"),
        ("的狗的", {"recurring": False}, "的狗"),
        ("def f(x):\n    return x\n", {}, "def f(x):\n    return x\n"),
    ],
)  # fmt: skip
def test_what_is_dropped(text: str, options: dict[str, Any], expected: str) -> None:
    assert write([text], clean="always", budget=Budget(200), **options).text == expected


def test_cleaned_text_is_cut_at_the_budget() -> None:
    assert write([TEXT], budget=Budget(20)).text == CLEAN[:20]
    assert write([TEXT], budget=Budget(20), keep="tail").text == CLEAN[-20:]
    assert write([TEXT], budget=Budget(22), keep="both").text == CLEAN[:10] + GAP + CLEAN[-10:]
    both = write([TEXT], budget=Budget(22), keep="both", head=0.25).text
    assert both == CLEAN[:5] + GAP + CLEAN[-15:]
    assert write([TEXT], budget=Budget(20), clean="none").text == TEXT[:20]


def test_nothing_is_cleaned_where_all_fits() -> None:
    assert write([TEXT], budget=Budget(100, "%")).text == TEXT
    assert write([TEXT], budget=Budget(len(TEXT) - 1)).text == CLEAN
    assert write([TEXT], budget=Budget(len(TEXT)), clean="always").text == CLEAN


def test_several_documents_stay_apart() -> None:
    found = write(["The ship. ", "", "The dog and a cat."], budget=Budget(25))
    assert found.text == "ship. " + GAP + "dog cat."
    assert {each.document for each in found.passages} == {0, 2}


@pytest.mark.parametrize("keep", ["head", "tail", "both"])
@pytest.mark.parametrize(
    "text",
    [
        "the of and " * 9,
        "no end at all " * 9,
        "😀 é. 你好。\r\n" * 9,
        "x" * 99,
        "\n" * 99,
    ],
)
def test_any_text_is_cut_to_the_budget(text: str, keep: str) -> None:
    for tokens in (1, 2, 3, 7, 30):
        assert 0 < len(write([text, ""], budget=Budget(tokens), keep=keep).text) <= tokens


def test_settings_that_make_no_sense_are_refused() -> None:
    for options in ({"keep": "middle"}, {"language": "xx"}, {"rare": 0}, {"clean": "no"}):
        with pytest.raises(RecipeError, match=next(iter(options))):
            SimpleHack(**options)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="head=0.3 does nothing without keep=both"):
        SimpleHack(head=0.3)
    with pytest.raises(RecipeError, match=r"allowed is tokens \(2048\) or a share"):
        SimpleHack(budget=Budget(1, "KB"))
