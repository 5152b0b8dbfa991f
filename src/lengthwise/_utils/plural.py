"""Counts in words: 1 line, 2 lines."""

from __future__ import annotations


def many(count: int, what: str) -> str:
    """A count and what it counts.

    Args:
        count: how many.
        what: one of them; the plural ends in s.

    Returns:
        "1 line", "2,000 lines".
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


__all__ = ["many"]
