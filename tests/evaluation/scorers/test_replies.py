"""Parts of replies."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.replies import (
    after_prefix,
    code_block,
    cut_at,
    first_line,
    printable,
    tagged,
)


def test_the_first_line_after_empty_ones() -> None:
    assert first_line("\n\nB\nC") == "B"
    assert first_line("") == ""


def test_a_reply_is_cut_at_the_first_end() -> None:
    assert cut_at("yes. no\nmaybe", ["\n", "."]) == "yes"
    assert cut_at("yes", ["\n"]) == "yes"


@pytest.mark.parametrize(
    ("reply", "part"),
    [
        ("I think so.\nAnswer: Paris\nas said", "Paris"), ("answer: ANSWER: Paris", "Paris"),
        ("Paris\nFrance", "Paris"), ("", ""), ("Answer:", ""),
    ],
)  # fmt: skip
def test_what_stands_behind_a_prefix(reply: str, part: str) -> None:
    assert after_prefix(reply) == part


def test_tags_and_blocks() -> None:
    assert tagged("x <Plan>\n a \n</Plan>", "Plan") == "a"
    assert tagged("x <Plan> a", "Plan") is None
    assert code_block("```c++\nint a;\n```", "cpp") == "\nint a;\n"
    assert code_block("```cpp\nint a;", "cpp") is None


def test_control_characters_are_line_ends() -> None:
    assert printable(" a\tb\x00c ") == "a\nb\nc"
