"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ASIDE = ".aside"
"""Suffix of what is being written; whatever bears it after a crash is rubbish."""


def aside_of(path: Path) -> Path:
    """The name that this thread writes to first for `path`: hidden, and longer than its own."""
    # Two processes may write one file: workers of a cluster outlive a killed run a little.
    return path.with_name(f".{path.name}.{threading.get_native_id()}{ASIDE}")


@contextmanager
def write_aside(path: str | os.PathLike[str], sync: bool = False) -> Iterator[Path]:
    """A name to write to, which becomes `path` when the block ends well and vanishes otherwise.

    So a reader finds the old file or the whole new one. Folders on the way are made. A link stays
    one: the file that it names is written.

    Args:
        path: of the file.
        sync: whether to wait until the contents are on the disk before the name is theirs, so that
            not even a power cut leaves half a file.

    Raises:
        OSError: where the disk refuses.
    """
    target = Path(os.path.realpath(path))
    aside = aside_of(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        rights = _usual_rights(aside)
        yield aside
        # Safetensors gives its files to their owner alone, whatever the process would.
        os.chmod(aside, rights)
        if sync:
            flush(aside)
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def _usual_rights(path: Path) -> int:
    """The rights of a file that this process makes there, which is not kept."""
    path.unlink(missing_ok=True)
    path.touch()
    found = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    return found


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text aside, in UTF-8, as `write_aside` does."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def flush(path: Path) -> None:
    """Waits until a file, or a folder with all below it, is on the disk."""
    for each in [*path.rglob("*"), path] if path.is_dir() else [path]:
        handle = os.open(each, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


__all__ = ["ASIDE", "aside_of", "flush", "write_aside", "write_text"]
