"""Who is told how far a piece of work is."""

from __future__ import annotations


class Progress:
    """Told of every stage; does nothing. The command line's draws bars."""

    def stage(self, name: str, total: int, unit: str) -> None:
        """A stage begins that has `total` units of work: bytes, documents, tokens, rounds."""

    def advance(self, done: int, tokens: int = 0) -> None:
        """`done` units more. tokens: those that went by meanwhile, where the unit is another."""

    def note(self, text: str) -> None:
        """Something that the user should know: what was skipped, added or found empty."""


__all__ = ["Progress"]
