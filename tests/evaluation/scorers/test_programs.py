"""Where a program stands in a reply, and what is said of it."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.scorers.programs import fenced, passes


@pytest.mark.parametrize("reply, wanted", [
    ("Here:\n```python\nx = 1\n```\nand\n```\ny\n```", "x = 1"), ("```\nx\n\ny\n```", "x\n\ny"),
    ("```python\nx = 1", "x = 1"), ("  ```py\n  x = 1\n  ```", "  x = 1"), ("x = 1", None),
    ("```python x```", None), ("", None), ("```\n```", ""),
])  # fmt: skip
def test_the_first_block_is_taken_closed_or_not(reply: str, wanted: str | None) -> None:
    assert fenced(reply) == wanted


def test_a_verdict_is_given_of_what_does_not_pass() -> None:
    assert passes("x = 1", "assert x == 1") == {"passed": 1.0}
    assert passes("x = 1", "assert x == 2") == {"passed": 0.0, "failed": 1.0}
    assert passes("while True: pass", "", seconds=0.3) == {"passed": 0.0, "timeout": 1.0}
