"""Pieces of bytes behind each other, each with its length, and a checksum before them all."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

from lengthwise.engine.kv_cache.packing import Damaged


def framed(pieces: Iterable[bytes]) -> bytes:
    """All pieces as one; `Frames` takes it apart.

    Args:
        pieces: each below 4 GiB.
    """
    body = b"".join(struct.pack("<I", len(piece)) + piece for piece in pieces)
    return struct.pack("<I", zlib.crc32(body)) + body


class Frames:
    """The pieces of what `framed` made, one after the other."""

    def __init__(self, data: bytes) -> None:
        """data: all of it.

        Raises Damaged where the checksum is not that of the rest.
        """
        self._data, self._at = memoryview(data), 4
        if len(data) < 4 or struct.unpack_from("<I", data)[0] != zlib.crc32(self._data[4:]):
            raise Damaged("a chunk of it is not what was written")

    def take(self, size: int | None = None) -> bytes:
        """The next piece.

        Args:
            size: bytes that it must have; None is any number.

        Raises:
            Damaged: where there is none, or one of another size.
        """
        start = self._at + 4
        if start > len(self._data):
            raise Damaged("a chunk of it ends early")
        (length,) = struct.unpack_from("<I", self._data, self._at)
        if start + length > len(self._data) or size not in (None, length):
            raise Damaged("a piece of a chunk has another size")
        self._at = start + length
        return bytes(self._data[start : self._at])

    def end(self) -> None:
        """Checks that no piece is left; raises Damaged otherwise."""
        if self._at != len(self._data):
            raise Damaged("a chunk holds more than its entries")


__all__ = ["Frames", "framed"]
