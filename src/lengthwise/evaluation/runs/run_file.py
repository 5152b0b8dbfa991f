"""The file of a run over benchmarks: a line a sample and recipe, as they are done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence as Seq
from pathlib import Path
from typing import Any, ClassVar

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.run_lines import (
    RunLines,
    damaged_line,
    head_of,
    is_run,
    run_kind,
)
from lengthwise.evaluation.metrics.sample_row import SampleRow

FORMAT = "lengthwise run"
RUN = run_kind(FORMAT)
_MEND = "delete it, and it is asked again"
_NOTE = b'{"note": '


class RunFile(RunLines):
    """A run's file while it is written.

    path: of the file. answered: rows that it has, by their key. What was refused is asked again:
    memory may be free by now, and a refusal takes no time. notes: what was left out.
    """

    format: ClassVar[str] = FORMAT
    mend: ClassVar[str] = _MEND

    def __init__(self, path: Path, job: Mapping[str, Any], force: bool = False) -> None:
        self.path = path
        self.answered: dict[tuple[Any, ...], SampleRow] = {}
        self.notes: list[str] = []
        super().__init__(path, job, force)

    def take(self, raw: bytes) -> None:
        if raw.startswith(_NOTE):
            self.notes.append(_note(raw))
            return
        row = SampleRow.read(raw)
        if row.refused is None:
            self.answered[row.key] = row

    def add(self, row: SampleRow) -> None:
        """Adds a row, and waits until it is on the disk."""
        self.write(row.dump())

    def tell(self, notes: Iterable[str]) -> None:
        """Adds what was left out, each once, as soon as the file has a row."""
        for note in notes:
            if self._begin is None and note not in self.notes:
                self.write({"note": note})
                self.notes.append(note)


def read_run(path: Path) -> tuple[dict[str, Any], list[SampleRow]]:
    """What a run is of, and its rows so far.

    Args:
        path: of its file.

    Returns:
        Its head, with what was left out as "notes", and its rows.

    Raises:
        LengthwiseError: for a file that is none, and for a damaged line, with its number.
    """
    try:
        ours = is_run(FORMAT, path)
        with path.open("rb") as file:
            lines = [line for line in file if line.endswith(b"\n")]
    except OSError as error:
        raise LengthwiseError(f"{path}: cannot be read ({error.strerror})") from error
    if not lines or not ours:
        raise LengthwiseError(f"{path} is no run of lengthwise: `lengthwise eval --out` writes one")
    rows: dict[tuple[Any, ...], SampleRow] = {}
    notes: list[str] = []
    for number, raw in enumerate(lines[1:], 2):
        try:
            if raw.startswith(_NOTE):
                notes.append(_note(raw))
                continue
            row = SampleRow.read(raw)
            # Of one that was asked again the last row counts.
            rows[row.key] = row
        except ValueError as error:
            raise damaged_line(path, number, error, _MEND) from error
    return {**head_of(FORMAT, path, lines[0]), "notes": notes}, list(rows.values())


def _note(raw: bytes) -> str:
    return str(json.loads(raw)["note"])


def chosen(
    path: Path, rows: Seq[SampleRow], recipes: Seq[str] = (), tasks: Seq[str] = ()
) -> list[SampleRow]:
    """Rows of some recipes and tasks.

    Args:
        path: of their file, for the message.
        rows: of a run.
        recipes, tasks: as they are written; none is all.

    Raises:
        LengthwiseError: for one that the run does not have.
    """
    for name, given, there in (
        ("recipe", recipes, {row.recipe for row in rows}), ("task", tasks, {r.task for r in rows})
    ):  # fmt: skip
        if missing := [each for each in given if each not in there]:
            known = ", ".join(sorted(there))
            raise LengthwiseError(f"{path} has no {name} {missing[0]!r}; it has {known}")
    return [
        row for row in rows
        if (not recipes or row.recipe in recipes) and (not tasks or row.task in tasks)
    ]  # fmt: skip


__all__ = ["RUN", "RunFile", "chosen", "read_run"]
