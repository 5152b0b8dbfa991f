"""Errors of others in one line of ours."""

from __future__ import annotations


def first_line(error: BaseException | str) -> str:
    """The first line of what an error says; the name of its kind where it says nothing."""
    said = str(error).strip()
    return said.splitlines()[0].rstrip() if said else type(error).__name__


def last_line(said: str, otherwise: str) -> str:
    """The last line of what a program said, which is where it tells what went wrong."""
    lines = said.strip().splitlines()
    return lines[-1] if lines else otherwise


__all__ = ["first_line", "last_line"]
