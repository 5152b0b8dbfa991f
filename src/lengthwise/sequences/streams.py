"""Bytes of a file as they are or unpacked, in order, from the start; and whether they can be read.
"""  # fmt: skip

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import IO, Any

from lengthwise._utils.messages import first_line
from lengthwise.sequences.errors import SequenceError, UnreadableError

PACKED = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2"}
"""Suffixes of what is unpacked while it is read, and what pyarrow calls its way of packing."""

BLOCK = 1 << 20
"""Bytes of a text file read at once."""


def unpacked_name(name: str) -> tuple[str, str | None]:
    """The name without the suffix of a packed file, and how it is packed, if it is."""
    suffix = PurePath(name).suffix
    way = PACKED.get(suffix.lower())
    return (name.removesuffix(suffix), way) if way else (name, None)


@contextmanager
def opened(location: str) -> Iterator[IO[bytes]]:
    """The contents of a file, unpacked.

    Raises UnreadableError where it cannot be read, be it in the midst of the block.
    """
    way = unpacked_name(location)[1]
    try:
        with open(location, "rb") as plain:
            if way is None:
                yield plain
                return
            import pyarrow as pa

            packed: Any = pa.CompressedInputStream(plain, way)
            yield io.BufferedReader(packed, BLOCK)
    except (OSError, EOFError) as error:
        raise unreadable(location, error) from error


def unreadable(location: str, error: Exception) -> SequenceError:
    """The error for what the system or a library says of a file."""
    said = getattr(error, "strerror", None) or first_line(error)
    return UnreadableError(location, said)


def blocks(location: str, encoding: str = "utf-8-sig") -> Iterator[str]:
    """The text of a file in stretches. Raises UnicodeError where it is not in the encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    with opened(location) as file:
        while block := file.read(BLOCK):
            yield decoder.decode(block)
        yield decoder.decode(b"", final=True)
