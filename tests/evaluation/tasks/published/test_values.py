"""Values of rows: read where they are of their kind, named where they are not."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.evaluation.tasks.published._shared.values import (
    number_in,
    numbers_in,
    text_in,
    texts_in,
)


def test_values_of_their_kind_are_read() -> None:
    row = {"a": "x", "b": 7, "c": ["x", 7], "d": "-7", "e": 7.0, "f": None, "g": ("1", 2)}
    assert (text_in(row, "a"), text_in(row, "b")) == ("x", "7")
    assert texts_in(row, "c") == ("x", "7") and texts_in(row, "f", 0) == ()
    assert [number_in(row, each) for each in "bde"] == [7, -7, 7]
    assert numbers_in(row, "g") == [1, 2]


@pytest.mark.parametrize("read, value, said", [
    (text_in, ["x"], r"column 'a' holds \[\"x\"\]; wanted is a text"),
    (text_in, None, "holds null; wanted is a text"),
    (text_in, True, "holds true; wanted is a text"),
    (texts_in, "xyz", "holds \"xyz\"; wanted is a list"),
    (texts_in, [], "is a list of 0; wanted are 1 or more"),
    (texts_in, [None], "holds null; wanted is a text"),
    (texts_in, "x" * 99, "holds \"x{36}\\.\\.\\.; wanted"),
    (number_in, 7.5, "holds 7.5; wanted is a whole number"),
    (number_in, "seven", "holds \"seven\"; wanted is a whole number"),
    (number_in, True, "holds true; wanted is a whole number"),
    (numbers_in, [], r"holds \[\]; wanted is a list of whole numbers"),
    (numbers_in, "12", "holds \"12\"; wanted is a list"),
])  # fmt: skip
def test_values_of_another_kind_are_named(read: Any, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read({"a": value}, "a")
