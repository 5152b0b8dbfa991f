"""Values of published rows, each refused where it is of another kind than it is published as.

A row of another kind would else be read as something: a text as a list of its letters, for one.
"""

from __future__ import annotations

import json
from typing import Any

from lengthwise.evaluation.tasks.published._shared.files import Row


def text_in(row: Row, column: str) -> str:
    """A text. A number is its digits.

    Args:
        row: of a published file.
        column: of the row.

    Raises:
        ValueError: for another kind of value.
    """
    found = row[column]
    if isinstance(found, str):
        return found
    if isinstance(found, int | float) and not isinstance(found, bool):
        return str(found)
    raise _other(column, found, "a text")


def texts_in(row: Row, column: str, least: int = 1) -> tuple[str, ...]:
    """A list of texts, or of numbers, which are their digits.

    Args:
        row: of a published file.
        column: of the row.
        least: how many there must be; with 0, no value is an empty list.

    Raises:
        ValueError: for another kind of value, and for too few.
    """
    found = row[column]
    if found is None and not least:
        return ()
    if not isinstance(found, list | tuple):
        raise _other(column, found, "a list")
    if len(found) < least:
        raise ValueError(f"column {column!r} is a list of {len(found)}; wanted are {least} or more")
    return tuple(text_in({column: each}, column) for each in found)


def number_in(row: Row, column: str) -> int:
    """A whole number, or the text of one.

    Args:
        row: of a published file.
        column: of the row.

    Raises:
        ValueError: for another kind of value.
    """
    found = row[column]
    whole = isinstance(found, int) or (isinstance(found, float) and found.is_integer())
    if whole and not isinstance(found, bool):
        return int(found)
    if isinstance(found, str) and found.strip().lstrip("+-").isdecimal():
        return int(found)
    raise _other(column, found, "a whole number")


def numbers_in(row: Row, column: str) -> list[int]:
    """A list of whole numbers, or of texts of them, at least one.

    Args:
        row: of a published file.
        column: of the row.

    Raises:
        ValueError: for another kind of value.
    """
    found = row[column]
    if not isinstance(found, list | tuple) or not found:
        raise _other(column, found, "a list of whole numbers")
    return [number_in({column: each}, column) for each in found]


def _other(column: str, found: Any, wanted: str) -> ValueError:
    shown = json.dumps(found, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
    return ValueError(f"column {column!r} holds {shown}; wanted is {wanted}")


__all__ = ["number_in", "numbers_in", "text_in", "texts_in"]
