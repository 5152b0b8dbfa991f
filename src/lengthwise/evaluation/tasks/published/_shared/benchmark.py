"""A benchmark of published rows: which samples are drawn, and what is said of missing files."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from lengthwise._utils.papers import Papers
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import Difficulty, NoRoom, Sample, Wanted
from lengthwise.evaluation.tasks.published._shared.cutting import fitted
from lengthwise.evaluation.tasks.published._shared.files import (
    Row,
    Source,
    lacking,
    local_file,
    rows_of,
)
from lengthwise.methods.options import option

T = TypeVar("T")
# More characters than a token has on average in any text that is read.
_CHARACTERS = 16
NEEDLE_LIKE = Difficulty("low", "low")
HIDDEN = Difficulty("high", "low")
COUNTED = Difficulty("low", "high")
SPREAD = Difficulty("high", "high")


@dataclass(frozen=True)
class PublishedBenchmark(ABC):
    """Rows of a task become samples. A benchmark says where they are, and how one is asked."""

    name: ClassVar[str]
    paper: ClassVar[Papers]
    tasks: ClassVar[Mapping[str, Difficulty]]
    # Whether a document without its middle has no answer, so that it is refused and not cut.
    whole: ClassVar[bool] = False
    # The column of published lengths, of which the longest that fits is drawn from and not cut.
    lengths: ClassVar[str] = ""

    data: str = option("", "folder or file in the published layout (none: from the hub)")

    @abstractmethod
    def source(self, task: str) -> Source:
        """Where a task is published."""

    @abstractmethod
    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """What a row asks, its context whole: one sample, or one a question."""

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
            NoRoom: for too little length.
            LengthwiseError: for data that is absent or of another form.
        """
        rows = rows_of(f"{self.name}/{task}", self.source(task), self.data)
        if self.lengths:
            yield from self._longest(task, wanted, rows)
            return
        every = [sample for row in rows for sample in self.asked(task, row)]
        for place, sample in self._drawn(task, wanted, every):
            if self.whole and not wanted.fits(sample):
                raise NoRoom(
                    f"sample {place + 1} of {self.name}/{task} is longer than {wanted.length:,} "
                    "tokens and cannot be cut: give a greater length, or a task of a shorter one"
                )
            yield fitted(wanted, sample)

    def _drawn(self, task: str, wanted: Wanted, every: Seq[T]) -> list[tuple[int, T]]:
        """Samples, or what they are made of, with their places, in their order."""
        if not every:
            raise LengthwiseError(f"{self.name}/{task}: no row of its data is of this task")
        draw = random.Random(f"{self.name}/{task} {wanted.seed}")
        places = draw.sample(range(len(every)), min(wanted.samples, len(every)))
        return [(place, every[place]) for place in sorted(places)]

    def _longest(self, task: str, wanted: Wanted, rows: Seq[Row]) -> list[Sample]:
        """Samples of the longest published length of which all that are drawn fit."""
        for length in sorted({int(row[self.lengths]) for row in rows}, reverse=True):
            alike = [row for row in rows if int(row[self.lengths]) == length]
            every = [sample for row in alike for sample in self.asked(task, row)]
            drawn = [sample for _, sample in self._drawn(task, wanted, every)]
            # What has so many characters needs no count of its tokens.
            if all(
                len(each.context) <= _CHARACTERS * wanted.length and wanted.fits(each)
                for each in drawn
            ):
                return drawn
        raise NoRoom(
            f"{self.name}/{task} has no samples of {wanted.length:,} tokens: its shortest "
            f"({self.lengths} {length}) are longer"
        )

    @abstractmethod
    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """The published figure first."""


__all__ = ["COUNTED", "HIDDEN", "NEEDLE_LIKE", "SPREAD", "PublishedBenchmark"]
