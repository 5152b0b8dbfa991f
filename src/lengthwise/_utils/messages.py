"""Errors of others in one line of ours."""

from __future__ import annotations

import threading


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


def say_once(text: str) -> None:
    """Writes a note to the error stream, and the same note no second time in a process."""
    with _LOCK:
        if text in _SAID:
            return
        _SAID.add(text)
    from rich.console import Console

    Console(stderr=True).print(f"note: {text}", highlight=False, soft_wrap=True)


_SAID: set[str] = set()
_LOCK = threading.Lock()

__all__ = ["first_line", "last_line", "ran_out", "say_once"]
