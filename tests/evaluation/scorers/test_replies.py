"""Parts of replies."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.replies import (
    after_prefix,
    behind,
    code_block,
    cut_at,
    first_line,
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


@pytest.mark.parametrize(
    ("reply", "rest"),
    [
        ("The last value is 7.", " 7."), ("\nThe last\n value  is\n7.", "\n7."), ("7.", " 7."),
        (" 7.", " 7."), ("\n7.", "\n7."), ("The last value is", ""), ("", ""),
        ("The last value isolates 7.", " The last value isolates 7."),
        ("So the last value is 7.", " So the last value is 7."),
    ],
)  # fmt: skip
def test_what_stands_behind_a_beginning_that_may_be_said_again(reply: str, rest: str) -> None:
    assert behind(reply, "The last value is") == rest


def test_a_beginning_of_marks_or_of_nothing() -> None:
    assert behind("The values are: 412,430", "The values are: 412,") == "430"
    assert behind("a b c d", "a b c") == " d" and behind("a b cd", "a b c") == " a b cd"
    assert behind("7", "") == "7" and behind(" 7", "") == " 7"
