"""Who is told how a run goes, and what stops it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol


class Watcher(Protocol):
    """Told how a run goes, on the first rank."""

    def note(self, text: str) -> None:
        """Something that happens once."""
        ...

    def step(self, step: int, steps: int, record: dict[str, Any]) -> None:
        """A record of the log was written after `step` of `steps`."""
        ...


class Silent:
    """A watcher that says nothing."""

    def note(self, text: str) -> None:
        pass

    def step(self, step: int, steps: int, record: dict[str, Any]) -> None:
        pass


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
