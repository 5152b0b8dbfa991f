"""The file of a run: what it is of, then a line a sample and recipe, as they are done.

A run that was killed goes on where it stopped, and may be given more tasks, lengths and recipes:
what stands in the file is not asked again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lengthwise._utils.appended import AppendedLines, HoldsLines
from lengthwise._utils.outputs import Kind
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.origin import Origin
from lengthwise.evaluation.metrics.sample_row import SampleRow

FORMAT = "lengthwise run"
VERSION = 1
_START = f'{{"{FORMAT}":'.encode()


def _is_run(path: Path) -> bool:
    with path.open("rb") as file:
        begun = file.read(len(_START))
    return _START.startswith(begun)


RUN = Kind("run", _is_run)


def read_run(path: Path) -> tuple[dict[str, Any], list[SampleRow]]:
    """What a run is of, and its rows so far.

    Args:
        path: of its file.

    Raises:
        LengthwiseError: for a file that is none, and for a damaged line, with its number.
    """
    try:
        with path.open("rb") as file:
            lines = [line for line in file if line.endswith(b"\n")]
    except OSError as error:
        raise LengthwiseError(f"{path}: cannot be read ({error.strerror})") from error
    if not lines or not lines[0].startswith(_START):
        raise LengthwiseError(f"{path} is no run of lengthwise: `lengthwise eval --out` writes one")
    return _head(path, lines[0]), [_row(path, n, raw) for n, raw in enumerate(lines[1:], 2)]


class RunFile(HoldsLines):
    """A run's file while it is written. rows: those it has, by their key."""

    def __init__(self, path: Path, job: Mapping[str, Any], force: bool = False) -> None:
        """Opens it, or begins it.

        Args:
            path: of the file.
            job: what it is of: all rows share it.
            force: begin anew, whatever lies there.

        Raises:
            LengthwiseError: for a file of another job or of something else, and a damaged one.
        """
        if not force and path.exists() and path.stat().st_size and not _is_run(path):
            raise LengthwiseError(
                f"{path}: a file that is no run of lengthwise lies there: name another one, or add "
                "--force to overwrite it"
            )
        self.rows: dict[tuple[Any, ...], SampleRow] = {}
        # What stands in the first line, until it is written with the first row.
        self._begin: dict[str, Any] | None = None
        self._made = None if path.exists() else path
        self._lines = AppendedLines(path, "run")
        try:
            if force:
                self._lines.clear()
            self._read(path, dict(job), self._lines.lines())
        except BaseException:
            self.close()
            raise

    def _read(
        self, path: Path, job: dict[str, Any], lines: Iterator[tuple[int, bytes]]
    ) -> None:  # fmt: skip
        head = None
        for number, raw in lines:
            if head is None:
                head = _head(path, raw)["job"]
            else:
                row = _row(path, number, raw)
                self.rows[row.key] = row
        if head is None:
            self._begin = {FORMAT: VERSION, "job": job, "origin": asdict(Origin.here())}
        elif wrong := [name for name, value in job.items() if head.get(name) != value]:
            raise LengthwiseError(
                f"{path}: is a run of another {wrong[0]} ({head.get(wrong[0])!r}); name another "
                "file, or add --force to begin it anew"
            )

    def close(self) -> None:
        """Lets go of the file; one that was made for a run without rows goes."""
        super().close()
        if self._begin is not None and self._made is not None:
            self._made.unlink(missing_ok=True)

    def add(self, row: SampleRow) -> None:
        """Adds a row, and waits until it is on the disk."""
        if self._begin is not None:
            self._lines.add(self._begin)
            self._begin = None
        self._lines.add(row.dump())
        self.rows[row.key] = row


def _head(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
        if found[FORMAT] != VERSION or not isinstance(found["job"], dict):
            raise ValueError("of another version")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LengthwiseError(f"{path}: its first line is damaged ({error!r})") from error
    return dict(found)


def _row(path: Path, number: int, raw: bytes) -> SampleRow:
    try:
        return SampleRow.read(raw)
    except ValueError as error:
        raise LengthwiseError(
            f"{path}: line {number} is damaged ({error}); delete it, and it is asked again"
        ) from error


__all__ = ["RUN", "RunFile", "read_run"]
