"""The file of judgements beside a run's: a line a reply, as it is judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.metrics.judgement_row import JudgementRow, case_of
from lengthwise.evaluation.metrics.run_lines import (
    RunLines,
    damaged_line,
    head_of,
    is_run,
    run_kind,
)
from lengthwise.evaluation.metrics.sample_row import SampleRow

FORMAT = "lengthwise judgements"
JUDGEMENTS = run_kind(FORMAT)
_MEND = "delete it, and it is asked again"
Key = tuple[str, int, float | None, int, str]


class JudgementFile(RunLines):
    """The file while it is written. judged: rows that it has, by their key; the last one counts."""

    format: ClassVar[str] = FORMAT
    mend: ClassVar[str] = _MEND

    def __init__(self, path: Path, job: Mapping[str, Any], force: bool = False) -> None:
        self.judged: dict[Key, JudgementRow] = {}
        super().__init__(path, job, force)

    def take(self, raw: bytes) -> None:
        row = JudgementRow.read(raw)
        self.judged[row.key] = row

    def add(self, row: JudgementRow) -> None:
        """Adds a row, and waits until it is on the disk."""
        self.write(row.dump())


def beside(run: Path, judge: str) -> Path:
    """Where the judgements of a run lie, unless another place is named.

    Args:
        run: its file.
        judge: the name of the judge.
    """
    return run.with_name(f"{run.stem}.{judge}{run.suffix or '.jsonl'}")


def read_judgements(path: Path) -> tuple[dict[str, Any], dict[Key, JudgementRow]]:
    """What judgements are of, and the judgements by key.

    Args:
        path: of their file.

    Raises:
        LengthwiseError: for a file that is none, and for a damaged line, with its number.
    """
    try:
        with path.open("rb") as file:
            lines = [line for line in file if line.endswith(b"\n")]
    except OSError as error:
        raise LengthwiseError(f"{path}: cannot be read ({error.strerror})") from error
    if not lines or not is_run(FORMAT, path):
        raise LengthwiseError(f"{path} holds no judgements: `lengthwise eval judge` writes them")
    found: dict[Key, JudgementRow] = {}
    for number, raw in enumerate(lines[1:], 2):
        try:
            row = JudgementRow.read(raw)
        except ValueError as error:
            raise damaged_line(path, number, error, _MEND) from error
        found[row.key] = row
    return head_of(FORMAT, path, lines[0]), found


def all_beside(
    run: Path, rows: Iterable[SampleRow]
) -> Iterator[tuple[dict[str, Any], dict[Key, JudgementRow]]]:
    """What lies beside a run of each judge: its job, and its judgements by key.

    A judgement of another question or reply than stands in the run now is left out.

    Args:
        run: its file.
        rows: all of the run.
    """
    there: dict[Key, SampleRow] = {row.key: row for row in rows}
    for path in sorted(run.parent.iterdir()):
        # Judgements of `run.big.jsonl` begin as those of `run.jsonl` do.
        mine = path == beside(run, path.stem.rpartition(".")[2])
        if mine and path.is_file() and path.stat().st_size and is_run(FORMAT, path):
            head, judged = read_judgements(path)
            against = str(head["job"].get("against"))
            yield head["job"], {
                key: each for key, each in judged.items()
                if key in there
                and each.case == case_of(there[key], there.get((*each.sample, against)))
            }  # fmt: skip


__all__ = ["JUDGEMENTS", "JudgementFile", "Key", "all_beside", "beside", "read_judgements"]
