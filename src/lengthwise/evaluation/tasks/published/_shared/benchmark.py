"""A benchmark of published rows: which samples are drawn, and what is said of missing files."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Papers
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted
from lengthwise.evaluation.tasks.published._shared.cutting import fitted
from lengthwise.evaluation.tasks.published._shared.files import (
    Row,
    Source,
    lacking,
    local_file,
    rows_of,
)
from lengthwise.methods.options import option

NEEDLE_LIKE = Difficulty("low", "low")
HIDDEN = Difficulty("high", "low")
COUNTED = Difficulty("low", "high")
SPREAD = Difficulty("high", "high")


@dataclass(frozen=True)
class PublishedBenchmark:
    """Rows of a task become samples. A benchmark says where they are, and how one is asked."""

    name: ClassVar[str]
    paper: ClassVar[Papers]
    tasks: ClassVar[Mapping[str, Difficulty]]
    # Whether a document without its middle has no answer, so that it is refused and not cut.
    whole: ClassVar[bool] = False

    data: str = option("", "folder or file in the published layout (none: from the hub)")

    def source(self, task: str) -> Source:
        """Where a task is published."""
        raise NotImplementedError

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """What a row asks, its context whole: one sample, or one a question."""
        raise NotImplementedError

    def missing(self, task: str) -> str:
        """The file of a task that is not in `data`, in words that follow "needs"; "" if it is."""
        source = self.source(task)
        absent = self.data and local_file(source, self.data) is None
        if absent or not (self.data or source.hub):
            return lacking(f"{self.name}/{task}", source, self.data)
        return ""

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """Samples drawn by the seed, the same at every length, in the published order.

        That order lets questions of one document stand together, so that it is read once. Where
        fewer are published than are wanted, all are taken.

        Raises:
            LengthwiseError: for data that is absent or of another form, or too little length.
        """
        rows = rows_of(f"{self.name}/{task}", self.source(task), self.data)
        every = [sample for row in rows for sample in self.asked(task, row)]
        if not every:
            raise LengthwiseError(f"{self.name}/{task}: no row of its data is of this task")
        draw = random.Random(f"{self.name}/{task} {wanted.seed}")
        places = draw.sample(range(len(every)), min(wanted.samples, len(every)))
        for place in sorted(places):
            if self.whole and not wanted.fits(every[place]):
                raise LengthwiseError(
                    f"sample {place + 1} of {self.name}/{task} is longer than {wanted.length:,} "
                    "tokens and cannot be cut: give a greater length, or a task of a shorter one"
                )
            yield fitted(wanted, every[place])

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """The published figure first."""
        raise NotImplementedError


__all__ = ["COUNTED", "HIDDEN", "NEEDLE_LIKE", "SPREAD", "PublishedBenchmark"]
