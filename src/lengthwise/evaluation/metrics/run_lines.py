"""The file of a run: what it is of and where it was made, then a line for each thing found.

A run that was killed goes on where it stopped, and may be given more of the same job: what stands
in the file is not asked again. The first line is written with the second, so that no file holds a
run without anything found.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from lengthwise._utils.appended import AppendedLines, HoldsLines
from lengthwise._utils.outputs import Kind
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.origin import Origin

VERSION = 1


class RunLines(HoldsLines):
    """The file of a run while it is written.

    format: its name in the first line. mend: what a user can do about a damaged line.
    """

    format: ClassVar[str]
    mend: ClassVar[str]

    def __init__(self, path: Path, job: Mapping[str, Any], force: bool = False) -> None:
        """Opens it, or begins it.

        Args:
            path: of the file.
            job: what it is of: all that is found shares it.
            force: begin anew, whatever lies there.

        Raises:
            LengthwiseError: for a file of another job or of something else, and a damaged one.
        """
        if not force and path.exists() and not is_run(self.format, path):
            raise LengthwiseError(
                f"{path}: a file that is no run of lengthwise lies there: name another one, or add "
                "--force to overwrite it"
            )
        # What stands in the first line, until it is written with the next one.
        self._begin: dict[str, Any] | None = None
        self._made = None if path.exists() else path
        self._lines = AppendedLines(path, "run")
        try:
            if force:
                self._lines.clear()
            self._read(path, json.loads(json.dumps(dict(job))))
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def take(self, raw: bytes) -> None:
        """Keeps what a line behind the first holds.

        Args:
            raw: the line.

        Raises:
            ValueError, KeyError, TypeError: for a damaged one.
        """

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds a line, and waits until it is on the disk."""
        if self._begin is not None:
            self._lines.add(self._begin)
            self._begin = None
        self._lines.add(row)

    def close(self) -> None:
        """Lets go of the file; one that was made for a run that found nothing goes."""
        super().close()
        if self._begin is not None and self._made is not None:
            self._made.unlink(missing_ok=True)

    def _read(self, path: Path, job: dict[str, Any]) -> None:
        head: dict[str, Any] | None = None
        for number, raw in self._lines.lines():
            if head is None:
                head = head_of(self.format, path, raw)["job"]
                continue
            try:
                self.take(raw)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise damaged_line(path, number, error, self.mend) from error
        if head is None:
            self._begin = {self.format: VERSION, "job": job, "origin": asdict(Origin.here())}
        elif wrong := [name for name, value in job.items() if head.get(name) != value]:
            raise LengthwiseError(
                f"{path}: is a run of another {wrong[0]} ({head.get(wrong[0])!r}); name another "
                "file, or add --force to begin it anew"
            )


def run_kind(name: str) -> Kind:
    """Runs of a format, as a kind of output."""
    return Kind("run", lambda path: is_run(name, path))


def is_run(name: str, path: Path) -> bool:
    """Whether a file begins as a run of a format does; an empty one is as good."""
    start = f'{{"{name}":'.encode()
    with path.open("rb") as file:
        return start.startswith(file.read(len(start)))


def head_of(name: str, path: Path, raw: bytes) -> dict[str, Any]:
    """The first line of a run.

    Args:
        name: of the format.
        path: of the file, for the message.
        raw: the line.

    Returns:
        An object with its job and its origin.

    Raises:
        LengthwiseError: for a damaged one, and one of another version.
    """
    try:
        found = json.loads(raw)
        if found[name] != VERSION or not isinstance(found["job"], dict):
            raise ValueError("of another version")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LengthwiseError(f"{path}: its first line is damaged ({error!r})") from error
    return dict(found)


def damaged_line(path: Path, number: int, error: Exception, mend: str) -> LengthwiseError:
    """The error of a damaged line, which names it, and what to do."""
    return LengthwiseError(f"{path}: line {number} is damaged ({error!r}); {mend}")


__all__ = ["VERSION", "RunLines", "damaged_line", "head_of", "is_run", "run_kind"]
