"""Where code is, and where in it text is."""

from __future__ import annotations

import pytest

from lengthwise.methods.decoding._shared.python_text import code_of, inside_text


@pytest.mark.parametrize("text, code", [
    ("x = 1\n", "x = 1\n"), ("Here:\n```python\nx = 1", "x = 1"), ("Here:\n```py", None),
    ("```\nx\n```\nThat is all.", None), ("```\nx\n```\n```\ny", "y"), ("", ""),
])  # fmt: skip
def test_code_of(text: str, code: str | None) -> None:
    assert code_of(text) == code


@pytest.mark.parametrize("code, inside", [
    ("x", False), ("x = 'a", True), ("x = 'a'", False), ("# a", True), ("# a\nx", False),
    ('"""a\n', True), ('"""a\n"""', False), ("'a\nx", False), (r"'a\'", True), ("'''a' '", True),
    ('"#"', False), ('f("it\'s", ', False), (r'"\\"', False),
])  # fmt: skip
def test_inside_text(code: str, inside: bool) -> None:
    assert inside_text(code) is inside
