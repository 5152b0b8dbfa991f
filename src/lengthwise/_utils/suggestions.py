"""The nearest of the names that are known, for the line that refuses another."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the list of what is known."""
    names = list(known)
    close = difflib.get_close_matches(name.lower(), names, 1, 0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(names)}" if names else ""
