"""Written tokens are read again in one piece, all of them seeing everything.

A step that reads a part of the keys leaves entries that differ from those of full attention, and
later steps build on them. Every so many tokens they are taken back and read as a prompt is, so the
difference does not add up (cache correction, TidalDecode).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lengthwise.engine.chunks import chunk_of
from lengthwise.engine.kv_cache.retention import CacheView
from lengthwise.engine.kv_cache.rollback import cut
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import extend


class Rereading:
    """The renewal of one sequence whose selection holds no index.

    every: tokens written between two times. right: tokens whose entries have seen everything.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.right = 0

    def renew(self, sequence: CacheView) -> None:
        """Reads what was written since the last time, once it is `every` tokens.

        Args:
            sequence: between two forwards.
        """
        assert isinstance(sequence, Sequence) and sequence.prompt_length is not None
        first = max(self.right, sequence.prompt_length)
        if len(sequence) - first >= self.every:
            # Reading commits, which asks here again.
            self.right = len(sequence)
            reread(sequence, first)

    def tokens_until_change(self, sequence: CacheView) -> int | None:
        """Tokens that may be written before that.

        Args:
            sequence: whose entries they are.
        """
        if sequence.prompt_length is None:
            return None
        return self.every - (len(sequence) - max(self.right, sequence.prompt_length))


def reread(sequence: Sequence, length: int) -> None:
    """Takes back all tokens behind the first `length` ones and reads them again.

    Args:
        sequence: plain and with nothing deleted, its selection without an index.
        length: tokens that stay as they are, 1 at least.
    """
    tokens = sequence.tokens_from(length)
    for _, group in sequence.groups():
        cut(group, length)
    del sequence._tokens[length:]
    step = chunk_of(sequence.model.device, False)
    for start in range(0, len(tokens), step):
        part = tokens[start : start + step]
        with _as_prompt(sequence, length + len(tokens)):
            _, (metadata,) = extend([(sequence, part, None)], "none")
        sequence.commit(metadata, part)


@contextmanager
def _as_prompt(sequence: Sequence, length: int) -> Iterator[None]:
    """Within, what is fed is read as a prompt of so many tokens is: decoding one alone selects."""
    before = sequence.prompt_length, sequence.reading
    sequence.prompt_length, sequence.reading = None, length
    try:
        yield
    finally:
        sequence.prompt_length, sequence.reading = before


__all__ = ["Rereading", "reread"]
