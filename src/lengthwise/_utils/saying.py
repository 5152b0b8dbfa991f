"""Notes to whoever runs something: on stderr, each of them once a process."""

from __future__ import annotations

import threading

from rich.console import Console

_SAID: set[str] = set()
_LOCK = threading.Lock()


def say_once(text: str) -> None:
    """Prints a note on stderr, unless it was printed before.

    Args:
        text: one line.
    """
    with _LOCK:
        if text not in _SAID:
            _SAID.add(text)
            Console(markup=False, stderr=True).print(
                f"note: {text}", highlight=False, soft_wrap=True, markup=False
            )


__all__ = ["say_once"]
