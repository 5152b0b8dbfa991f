"""The one error of this room, and the hint that ends most of its lines."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from lengthwise.errors import LengthwiseError


class SequenceError(LengthwiseError):
    """A source, tokenizer, method or output folder that sequences cannot be built from or into."""


class UnreadableError(SequenceError):
    """A file that cannot be read, or not to its end: it is skipped and counted, unless asked to be
    strict. why: the reason, without the name of the file."""

    def __init__(self, location: str, why: str) -> None:
        super().__init__(f"{location} cannot be read: {why}")
        self.why = why


class NotAsAskedError(SequenceError):
    """Nothing can be made of the documents with the options chosen, and nothing was: others may be
    given for the same folder."""


def hint(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'? Allowed: x, y` with the first half only where something is near."""
    choices = list(allowed)
    near = difflib.get_close_matches(word, choices, 1)
    meant = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{meant} allowed: {', '.join(choices)}"
