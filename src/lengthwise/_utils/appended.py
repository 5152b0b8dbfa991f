"""A file of lines that grows while a job runs, so that the same job goes on after a crash.

Each line is on the disk before the next. One process writes at a time. What a crash has torn is the
last line, which is cut off when the file is opened again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lengthwise.errors import LengthwiseError


class AppendedLines:
    """Lines of JSON, more of them by and by. The file is made where it is not there.

    path: of the file. what: who writes there, for the message where another does. error: the kind
    of that message.
    """

    def __init__(
        self, path: Path, what: str, error: type[LengthwiseError] = LengthwiseError
    ) -> None:
        self.path, self._what, self._error = path, what, error
        self._file = path.open("ab")
        try:
            self._hold()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def _hold(self) -> None:
        """Holds the file for this process; the system lets go of it however that ends."""
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise self._error(
                f"{self.path}: another {self._what} writes there: wait for it, or name another file"
            ) from error
        except OSError:  # a file system without locks: then it is the user who must take care
            pass

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The whole lines, each with its number from 1 on; a torn one is cut off behind them."""
        whole = 0
        with self.path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    break
                yield number, raw
                whole += len(raw)
        if whole < self.path.stat().st_size:
            os.truncate(self.path, whole)

    def clear(self) -> None:
        """Takes all lines away."""
        os.truncate(self.path, 0)

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds a line, and waits until it is on the disk.

        Args:
            row: what JSON can hold.
        """
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


class HoldsLines:
    """What holds a file of lines, as `_lines`, until it is closed."""

    _lines: AppendedLines

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def close(self) -> None:
        """Lets go of the file."""
        self._lines.close()


__all__ = ["AppendedLines", "HoldsLines"]
