"""What stops a run: the first signal ends it after its step, and nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def first_signal() -> Iterator[list[int]]:
    """A list that the first SIGINT or SIGTERM is put into; a second SIGINT interrupts at once."""
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and number in came:
            raise KeyboardInterrupt
        came.append(number)

    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
