"""A run's log: JSON lines that a resumed run goes on with, and the picture drawn from them.

The first record has the run's facts. `D` is tokens read, `N` weights outside of embeddings and head
and `L` validation loss, so `lengthwise scaling fit` reads the file as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lengthwise.sequences.files import said_plainly, written_aside
from lengthwise.training.config import TrainingError
from lengthwise.training.cost import Measured, Sizes
from lengthwise.training.data import Work

NAME = "log.jsonl"
Record = dict[str, Any]


class Log:
    """Appends records to the log in `folder` from byte `position` on; what is after it goes.

    writes: whether this rank does anything at all.
    """

    def __init__(self, folder: Path, position: int, writes: bool) -> None:
        self._path, self._file = folder / NAME, None
        if writes:
            with said_plainly(self._path):
                self._file = self._path.open("ab")
                if self._file.seek(0, 2) < position:
                    raise TrainingError(
                        f"{self._path} is shorter than the checkpoint says: it was changed; put "
                        "it back, or delete the folder to begin anew"
                    )
                self._file.truncate(position)
                # Cutting a file leaves its position where it was, behind the end.
                self._file.seek(position)

    def settle(self) -> int:
        """Bytes written so far, all of which are on the disk when this returns."""
        if self._file is None:
            return 0
        with said_plainly(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._file.tell()

    def write(self, record: Record) -> None:
        """Adds one line, which is on its way to the disk when this returns."""
        if self._file:
            with said_plainly(self._path):
                self._file.write((json.dumps(record) + "\n").encode())
                self._file.flush()

    def close(self) -> None:
        if self._file:
            # What a full disk refused is still buffered, and closing would try it again.
            with suppress(OSError):
                self._file.close()


@dataclass
class Interval:
    """What has been done since the last record. loss: nats of all predicted tokens."""

    steps: int = 0
    loss: float = 0.0
    predicted: int = 0
    seconds: float = 0.0
    tokens: int = 0
    rows: int = 0
    token_lengths: int = 0
    pairs: int = 0

    def add(self, work: Work, loss: float, predicted: int, seconds: float) -> None:
        """Adds one step whose mean loss was `loss`."""
        self.steps += 1
        self.loss += loss * predicted
        self.predicted += predicted
        self.seconds += seconds
        for name, value in asdict(work).items():
            setattr(self, name, getattr(self, name) + value)

    def record(self, sizes: Sizes) -> Record:
        """The sums as a record: loss is the mean a token, length the mean row of a token."""
        work = Work(self.tokens, self.rows, self.token_lengths, self.pairs)
        return asdict(self) | {
            "loss": self.loss / self.predicted,
            "length": self.token_lengths / self.tokens,
            "parameter_flops": sizes.parameter_flops(work),
            "attention_flops": sizes.attention_flops(work),
        }


def read_log(path: Path, kind: str | None = None) -> Iterator[Record]:
    """Records of a log, of one kind or all. Raises TrainingError for a line that is none."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise TrainingError(f"{path}, line {number}: not JSON") from error
            if kind is None or record.get("kind") == kind:
                yield record


def measured(path: Path) -> list[Measured]:
    """The steps that a log has seconds of, for `cost.fit`."""
    return [
        Measured(Work(each["tokens"], each["rows"], each["token_lengths"], each["pairs"]),
                 each["seconds"])
        for each in read_log(path, "train")
    ]  # fmt: skip


def plot(folder: Path) -> Path:
    """Draws loss against tokens, and row length below it, to loss.png."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = list(read_log(folder / NAME, "train"))
    checks = list(read_log(folder / NAME, "evaluation"))
    figure = Figure(figsize=(8, 6), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    loss, length = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    loss.plot([r["D"] for r in steps], [r["loss"] for r in steps], lw=0.8, label="training")
    if checks:
        loss.plot([r["D"] for r in checks], [r["L"] for r in checks], "o-", label="validation")
    loss.set_ylabel("nats per token")
    loss.legend()
    length.plot([r["D"] for r in steps], [r["length"] for r in steps], lw=0.8, color="tab:gray")
    length.set_ylabel("tokens in a row")
    length.set_xlabel("tokens read")
    place = folder / "loss.png"
    with written_aside(place) as aside:
        canvas.print_png(str(aside))  # type: ignore[no-untyped-call]
    return place
