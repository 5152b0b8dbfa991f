"""A file of lines that grows while a job runs, so that the same job goes on after a crash.

Each line is on the disk before the next. One process writes at a time. What a crash has torn is the
last line, which is cut off when the file is opened again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lengthwise._utils.locks import hold
from lengthwise.errors import LengthwiseError


class AppendedLines:
    """Lines of JSON, more of them by and by. The file is made where it is not there.

    path: of the file. what: who writes there, for the message where another does. error: the kind
    of that message.
    """

    def __init__(
        self, path: Path, what: str, error: type[LengthwiseError] = LengthwiseError
    ) -> None:
        self.path = path
        taken = f"{path}: another {what} writes there: wait for it, or name another file"
        self._file = path.open("ab")
        try:
            hold(self._file.fileno(), error(taken))
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
