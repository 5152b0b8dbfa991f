"""The file of a run over tasks of the harness: a line a sample, and one more when a task is done.

A run that was killed goes on behind the last task and recipe that were done, and may be given more
of both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lengthwise._utils.appended import AppendedLines, HoldsLines
from lengthwise._utils.outputs import Kind
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.harness.outcome import HarnessSample, Outcome, Score
from lengthwise.evaluation.metrics.origin import Origin

FORMAT, VERSION = "lengthwise harness run", 1
_START = f'{{"{FORMAT}":'.encode()


def _is_run(path: Path) -> bool:
    with path.open("rb") as file:
        begun = file.read(len(_START))
    return _START.startswith(begun)


HARNESS_RUN = Kind("run", _is_run)


class HarnessFile(HoldsLines):
    """The file while a run lasts. done: outcomes by recipe and name."""

    def __init__(self, path: Path, job: Mapping[str, Any], force: bool = False) -> None:
        """Opens it, or begins it.

        Args:
            path: of the file.
            job: what all its rows share; another one's is refused.
            force: begin anew, whatever lies there.

        Raises:
            LengthwiseError: for a file of another job or of something else, and a damaged one.
        """
        if not force and path.exists() and path.stat().st_size and not _is_run(path):
            raise LengthwiseError(
                f"{path}: a file that is no run of lengthwise lies there: name another one, or add "
                "--force to overwrite it"
            )
        self.path = path
        self.done: dict[tuple[str, str], Outcome] = {}
        self._samples: dict[tuple[str, str, int, str], HarnessSample] = {}
        self._lines = AppendedLines(path, "run")
        try:
            if force:
                self._lines.clear()
            self._read(json.loads(json.dumps(dict(job))))
        except BaseException:
            self._lines.close()
            raise

    def _read(self, job: dict[str, Any]) -> None:
        head: dict[str, Any] | None = None
        for number, raw in self._lines.lines():
            try:
                row = json.loads(raw)
                if head is None:
                    head = dict(row["job"])
                    if row[FORMAT] != VERSION:
                        raise ValueError(f"version {row[FORMAT]}")
                else:
                    self._take(row)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise LengthwiseError(
                    f"{self.path}: line {number} is damaged ({error!r}); name another file, or add "
                    "--force to begin it anew"
                ) from error
        if head is None:
            origin = asdict(Origin.here())
            self._lines.add({FORMAT: VERSION, "job": job, "origin": origin})
        elif wrong := [name for name in job if head.get(name) != job[name]]:
            raise LengthwiseError(
                f"{self.path}: is a run of another {wrong[0]} ({head.get(wrong[0])!r}); name "
                "another file, or add --force to begin it anew"
            )

    def _take(self, row: Mapping[str, Any]) -> None:
        if "done" not in row:
            sample = HarnessSample(**row)
            self._samples[sample.key] = sample
            return
        scores = {
            task: {metric: Score(**score) for metric, score in found.items()}
            for task, found in row["scores"].items()
        }
        recipe, name, tasks = str(row["recipe"]), str(row["done"]), set(row["tasks"])
        mine = [s for s in self._samples.values() if s.recipe == recipe and s.task in tasks]
        self.done[recipe, name] = Outcome(recipe, name, scores, mine)

    def add(self, outcome: Outcome) -> None:
        """Adds what a recipe got, and waits until it is on the disk.

        Args:
            outcome: all of it. Samples that a killed run has left are not written again.
        """
        for sample in outcome.samples:
            if sample.key not in self._samples:
                self._lines.add(asdict(sample))
                self._samples[sample.key] = sample
        self._lines.add(outcome.closing())
        self.done[outcome.recipe, outcome.name] = outcome


__all__ = ["HARNESS_RUN", "HarnessFile"]
