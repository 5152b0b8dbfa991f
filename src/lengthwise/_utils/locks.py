"""Files and folders that one process holds. The system lets go of them however that ends.

Windows has no such locks, nor have some file systems: there it is the user who must take care.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lengthwise.errors import LengthwiseError


def hold(handle: int, refused: LengthwiseError) -> None:
    """Holds an open file or folder for this process, until it is closed.

    Args:
        handle: the system's number of it.
        refused: raised where another process holds it.
    """
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise refused from error
    except OSError:
        pass


@contextmanager
def alone_in(
    folder: Path, who: str, error: type[LengthwiseError] = LengthwiseError
) -> Iterator[None]:
    """Holds a folder for this process; the block may remove it.

    Args:
        folder: made where there is none.
        who: what this process does, for the line that another one of its kind is told.
        error: the kind of that line.

    Raises:
        LengthwiseError: another process holds it.
    """
    if sys.platform == "win32":
        folder.mkdir(parents=True, exist_ok=True)
        yield
        return
    refused = error(f"another {who} is at work in {folder}: wait for it, or name another folder")
    handle = _held(folder, refused)
    try:
        yield
    finally:
        os.close(handle)


def _held(folder: Path, refused: LengthwiseError) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            hold(handle, refused)
            # Who held it before may have removed it since it was opened here.
            if _is(handle, folder):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is(handle: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False


__all__ = ["alone_in", "hold"]
