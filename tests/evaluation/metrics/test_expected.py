"""Whether an answer contains what is expected, however it is written."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, strategies as st

from lengthwise.evaluation.metrics.expected import contains, normalised


@pytest.mark.parametrize(
    ("text", "expected", "found"),
    [
        ("It was signed by Dr. Ada  Lovelace, in 1843.", "ada lovelace", True),
        ("ＡＤＡ said so", "Ada", True),
        ("Adaline did", "Ada", False),
        ("in 1942", "42", False),
        ("costs $1,234.50.", "1,234.50", True),
        ("(42)", "42", True),
        ("她住在上海。", "上海", True),
        ("nothing", "上海", False),
        ("İstanbul'da", "istanbul", False),
        ("“Yes!”", "yes", True),
    ],
)
def test_an_answer_contains_what_is_expected(text: str, expected: str, found: bool) -> None:
    assert contains(text, expected) == found


@given(st.text(alphabet="ab Z9,.é", max_size=20))
def test_every_text_contains_itself(text: str) -> None:
    assume(normalised(text))
    assert contains(f"so: {text}!", text)
