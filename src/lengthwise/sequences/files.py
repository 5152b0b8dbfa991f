"""Files that are there whole or not at all, sizes a person writes, and checksums."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lengthwise._utils.files import ASIDE, write_aside
from lengthwise.methods.budget import UNITS
from lengthwise.sequences.errors import SequenceError

if TYPE_CHECKING:
    import numpy as np

_ZEROS = 1 << 20
_GLIMPSE, _GLIMPSES = 1 << 16, 16
_UNITS = UNITS | {"": 1, "TB": 10**12, "TIB": 2**40}
_MOST = 1 << 60


@contextmanager
def said_plainly(path: Path) -> Iterator[None]:
    """Turns an OSError of the block, a full disk above all, into one line about `path`."""
    try:
        yield
    except OSError as error:
        raise SequenceError(
            f"{path} cannot be written: {why_not(error)}; nothing half-written is left: mend that "
            "and run the same command again to go on"
        ) from error


def why_not(error: OSError) -> str:
    """What the system says of an error, and of a disk without room that it is full."""
    said = str(error.strerror or error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"the disk is full ({said})" if full else said


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """`write_aside` to the disk itself. Raises SequenceError where it refuses."""
    with said_plainly(path), write_aside(path, sync=True) as aside:
        yield aside


def sweep(folder: Path) -> None:
    """Deletes what a crash left half-written."""
    with said_plainly(folder):
        for path in folder.rglob(f"*{ASIDE}"):
            path.unlink()


def reserve(table: np.memmap[Any, Any]) -> None:
    """Takes the room of a new mapping from the disk, filling it with zeros.

    Raises OSError where there is none: a page of a mapping that finds no room ends the process.
    """
    left = table.nbytes
    with open(table.filename or "", "r+b") as file:
        file.seek(table.offset)
        while left > 0:
            left -= file.write(bytes(min(left, _ZEROS)))


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON with sorted keys, written aside."""
    with written_aside(path) as aside:
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
        aside.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """What `write_json` wrote; raises SequenceError where the file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SequenceError(f"{path} cannot be read: {error}") from error


def checksum(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def glimpse(path: Path) -> str:
    """The sha256 of a file of up to 1 MiB, and of 16 stretches of a larger one: its first and last
    64 KiB and those evenly between. So a file that was put in another's place is told from it
    without reading all of it, whatever its size and time."""
    seen = hashlib.sha256()
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        for number in range(_GLIMPSES):
            file.seek(max(0, end - _GLIMPSE) * number // (_GLIMPSES - 1))
            seen.update(file.read(_GLIMPSE if end > _GLIMPSE * _GLIMPSES else -1))
            if end <= _GLIMPSE * _GLIMPSES:
                break
    return seen.hexdigest()


def digest(value: Any) -> str:
    """The sha256 of `value` as JSON: equal for equal settings."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def parse_bytes(text: str) -> int:
    """Reads `256MB`, `2GiB` or a number of bytes; raises SequenceError on anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?B|)", text.strip(), re.IGNORECASE)
    if match is None or match[2].upper() not in _UNITS:
        raise SequenceError(f"{text!r} is no size: allowed are 256MB, 2GiB or a number of bytes")
    size = Decimal(match[1]) * _UNITS[match[2].upper()]
    if size > _MOST:
        raise SequenceError(f"{text[:40]!r} is more than any machine has: allowed are 256MB, 2GiB")
    return int(size)


def write_bytes(size: int) -> str:
    """A size as a person writes it, and `parse_bytes` reads it: `256MB`, or the bytes."""
    for unit in ("GB", "GIB", "MB", "MIB"):
        if size and not size % _UNITS[unit]:
            return f"{size // _UNITS[unit]}{unit.replace('I', 'i')}"
    return str(size)
