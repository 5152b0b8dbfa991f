"""The file of a run over tasks of the harness: a line a sample, and one more when a task is done.

A run that was killed goes on behind the last task and recipe that were done, and may be given more
of both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from lengthwise.evaluation.harness.outcome import HarnessSample, Outcome, Score
from lengthwise.evaluation.metrics.run_lines import RunLines, run_kind

FORMAT = "lengthwise harness run"
HARNESS_RUN = run_kind(FORMAT)


class HarnessFile(RunLines):
    """The file while a run lasts. done: outcomes by recipe and name."""

    format: ClassVar[str] = FORMAT
    mend: ClassVar[str] = "name another file, or add --force to begin it anew"

    def __init__(self, path: Path, job: Mapping[str, Any], force: bool = False) -> None:
        self.done: dict[tuple[str, str], Outcome] = {}
        self._samples: dict[tuple[str, str, int, str], HarnessSample] = {}
        super().__init__(path, job, force)

    def take(self, raw: bytes) -> None:
        row = json.loads(raw)
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
                self.write(asdict(sample))
                self._samples[sample.key] = sample
        self.write(outcome.closing())
        self.done[outcome.recipe, outcome.name] = outcome


__all__ = ["HARNESS_RUN", "HarnessFile"]
