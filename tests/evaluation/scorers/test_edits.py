"""Lines of code."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.edits import code_line, edit_ratio


def test_the_first_line_of_code_is_compared() -> None:
    assert code_line("\n```python\n# sum\nx = 1\ny = 2") == "x = 1"
    assert code_line("# only\n// comments") == ""


def test_equal_lines_score_one_and_none_zero() -> None:
    assert edit_ratio("x = 1", ["y = 22", "x = 1"]) == 1
    assert edit_ratio("# nothing", ["x = 1"]) == 0


def test_the_released_ratio_is_in_whole_percents() -> None:
    assert edit_ratio("abcd", ["abc"]) == pytest.approx(6 / 7)
    assert edit_ratio("abcd", ["abc"], compat=True) == 0.86
