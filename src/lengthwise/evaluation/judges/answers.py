"""Marks and JSON in what a judge said."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def one_mark(said: str, pattern: str) -> str | None:
    """What the marks of an answer hold, where all hold the same.

    One that repeats its instructions has several; what it thinks is not known.

    Args:
        said: the answer.
        pattern: of a mark, with one group.
    """
    found = {mark.strip() for mark in re.findall(pattern, said)}
    return found.pop() if len(found) == 1 else None


def last_object(said: str) -> Mapping[str, Any] | None:
    """The last object of JSON in an answer; None where there is none.

    Args:
        said: the answer, with words or a fence around it.
    """
    decoder, found = json.JSONDecoder(strict=False), None
    place = said.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(said, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            found = value
        place = said.find("{", end)
    return found


def whole_in(found: Mapping[str, Any] | None, name: str, low: int, high: int) -> int | None:
    """A field that is a whole number in a range; None where it is anything else.

    Args:
        found: an object of JSON, or None.
        name: of the field.
        low: least.
        high: most.
    """
    value = None if found is None else found.get(name)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return None
    return int(value) if value == int(value) else None


__all__ = ["last_object", "one_mark", "whole_in"]
