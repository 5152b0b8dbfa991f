"""The errors of this room."""

from __future__ import annotations

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
