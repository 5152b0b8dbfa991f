"""Where code is, and where in it text is."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from lengthwise.methods.decoding._shared.python_text import (
    BEGINNING,
    code_of,
    inside_text,
    read_on,
)


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


PIECES = st.sampled_from(["'", '"', "'''", '"""', "#", "\\", "\n", "a.", " ", "`", "```", "py"])


@given(st.lists(PIECES, max_size=40), st.data())
def test_reading_on_ends_where_reading_anew_does(pieces: list[str], data: st.DataObject) -> None:
    place, text = BEGINNING, ""
    for piece in pieces:
        # A piece comes at once, or letter by letter.
        for part in piece if data.draw(st.booleans()) else [piece]:
            text += part
            place = read_on(text, place)
            code = code_of(text)
            assert (place.start < 0) is (code is None)
            if code is not None:
                assert text[place.start :] == code
                assert place.inside is inside_text(code) and place.free <= len(text)


def test_what_was_read_is_not_read_again() -> None:
    text = "x = 'a'\n" * 1000
    place = read_on(text)
    assert place.free == len(text) and not place.inside
    # Two quotes may be the beginning of three.
    place = read_on(text + "''", place)
    assert not place.inside and place.free == len(text)
    assert read_on(text + "'''", place).inside
    assert not read_on(text + "'' + y", place).inside
    # Bytes of a character are fewer than what stands for them.
    half = read_on("y = \ufffd\ufffd")
    assert half.free == 4 and read_on("y = é'", half).inside
