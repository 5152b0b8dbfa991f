"""headings: sections that fit are whole, and joined they are the text."""

from __future__ import annotations

import sys

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.retrieval.headings import sections

FRONT = "---\ntitle: Cranes\n# no heading\n---\n\n"
ONE = "# One\n\nText of one. It has two.\n\n```\n# a comment, no heading\nx = 1\n```\n\n"
TWO = "## Two\n\nOther text. And more.\n\n- a\n- b\n\n"
LAST = "Setext\n======\n\nLast words.\r\nWith ends.\n"
TEXT = FRONT + ONE + TWO + LAST


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        # Small sections stand side by side.
        (TEXT, 90, [FRONT, ONE, TWO + LAST]),
        (ONE + LAST, 80, [ONE, LAST]),
        (TEXT, 999, [TEXT]),
        # A section that does not fit is cut between its paragraphs, never at the sign in the code.
        (ONE, 60, [ONE[:32], ONE[32:]]),
        ("One of it. Two.\n\nOther part.\n", 20, ["One of it. Two.\n", "\nOther part.\n"]),
        ("", 9, []),
    ],
)  # fmt: skip
def test_sections_that_fit_are_whole(text: str, size: int, expected: list[str]) -> None:
    assert sections(text, len, size) == expected


@pytest.mark.parametrize(
    "text",
    [TEXT, "x" * 300, "\n" * 200, "é 😀 Ünï!\r\n" * 30, "no end " * 40, "\u3000你好。" * 40,
     "a \ud800 b. " * 9, "\ufeff# A\n\ntext", "   \n  # x\n" * 9, "```\n# open\n" * 9],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 7, 80])
def test_joined_they_are_the_text(text: str, size: int) -> None:
    found = sections(text, len, size)
    assert "".join(found) == text and all(0 < len(each) <= size for each in found)


def test_a_character_of_more_tokens_is_a_piece_of_its_own() -> None:
    assert sections("é😀", lambda text: len(text.encode()), 1) == ["é", "😀"]


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "semantic_text_splitter", None)
    with pytest.raises(LengthwiseError, match=r"splitter: pip install 'lengthwise\[prompting]'"):
        sections(TEXT, len, 9)
