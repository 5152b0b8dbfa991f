"""Who is told how far a build is."""

from __future__ import annotations


class Watcher:
    """Told of every stage; does nothing. The command line's draws bars."""

    def stage(self, name: str, total: int, unit: str) -> None:
        """A stage begins that has `total` units of work, bytes or tokens."""

    def advance(self, done: int, tokens: int) -> None:
        """`done` units and `tokens` tokens more."""

    def note(self, text: str) -> None:
        """Something that the user should know: what was skipped, added or found empty."""
