"""Errors of others in one line of ours."""

from __future__ import annotations


def first_line(error: BaseException | str) -> str:
    """The first line of what an error says; the name of its kind where it says nothing."""
    said = str(error).strip()
    return said.splitlines()[0].rstrip() if said else type(error).__name__


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch has a class for that on GPUs alone."""
    cpu = isinstance(error, RuntimeError) and "allocate memory" in str(error)
    return cpu or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def last_line(said: str, otherwise: str) -> str:
    """The last line of what a program said, which is where it tells what went wrong."""
    lines = said.strip().splitlines()
    return lines[-1] if lines else otherwise


__all__ = ["first_line", "last_line", "ran_out"]
