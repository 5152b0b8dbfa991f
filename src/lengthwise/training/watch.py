"""Who is told how a run goes."""

from __future__ import annotations

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
