"""A benchmark of published rows: which samples are drawn, and what is said of missing files."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from lengthwise._utils.messages import first_line
from lengthwise._utils.papers import Papers
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import Difficulty, NoRoom, Sample, Wanted, shuffled
from lengthwise.evaluation.tasks.published._shared.cutting import fitted
from lengthwise.evaluation.tasks.published._shared.files import (
    Row,
    Source,
    lacking,
    local_file,
    rows_of,
)
from lengthwise.evaluation.tasks.published._shared.values import number_in
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
        rows = list(enumerate(rows_of(f"{self.name}/{task}", self.source(task), self.data), 1))
        if self.lengths:
            yield from self._longest(task, wanted, rows)
            return
        every = self.made(task, rows, lambda row: self.asked(task, row))
        if self.passes_over(task):
            yield from self._those_that_fit(task, wanted, every)
            return
        for place, sample in self._drawn(task, wanted, every):
            if self.whole and not wanted.fits(sample):
                raise NoRoom(
                    f"sample {place + 1} of {self.name}/{task} is longer than {wanted.length:,} "
                    "tokens and cannot be cut: give a greater length, or a task of a shorter one"
                )
            yield fitted(wanted, sample)

    def passes_over(self, task: str) -> bool:
        """Whether samples that are too long are left out, where lengths in a task differ much."""
        return False

    def made(
        self, task: str, rows: Iterable[tuple[int, Row]], make: Callable[[Row], Iterable[T]]
    ) -> list[T]:
        """What is made of rows, each with its number.

        Raises:
            LengthwiseError: for a row with a value of another kind, by its number.
        """
        found: list[T] = []
        for number, row in rows:
            try:
                found += make(row)
            except LengthwiseError:
                raise
            except (LookupError, AttributeError, RecursionError, TypeError, ValueError) as error:
                raise LengthwiseError(
                    f"{self.name}/{task}: row {number} of its data is not as it is published "
                    f"({first_line(error)})"
                ) from error
        return found

    def _drawn(self, task: str, wanted: Wanted, every: Seq[T]) -> list[tuple[int, T]]:
        """Samples, or what they are made of, with their places, in their order."""
        self._some(task, every)
        draw = random.Random(f"{self.name}/{task} {wanted.seed}")
        places = draw.sample(range(len(every)), min(wanted.samples, len(every)))
        return [(place, every[place]) for place in sorted(places)]

    def _those_that_fit(self, task: str, wanted: Wanted, every: Seq[Sample]) -> list[Sample]:
        """Samples drawn by the seed, those too long passed over, which is said."""
        self._some(task, every)
        draw = random.Random(f"{self.name}/{task} {wanted.seed}")
        kept: list[int] = []
        passed = 0
        for place in shuffled(range(len(every)), draw):
            if len(kept) == wanted.samples:
                break
            if _may_fit(wanted, every[place]) and wanted.fits(every[place]):
                kept.append(place)
            else:
                passed += 1
        if not kept:
            raise NoRoom(
                f"{self.name}/{task} has no samples of {wanted.length:,} tokens, and none can be "
                "cut: give a greater length"
            )
        if passed:
            wanted.notes.append(
                f"{self.name}/{task}: {passed} of {passed + len(kept)} samples drawn are longer "
                f"than {wanted.length:,} tokens and left out"
            )
        return [every[place] for place in sorted(kept)]

    def _some(self, task: str, every: Seq[T]) -> None:
        if not every:
            raise LengthwiseError(f"{self.name}/{task}: no row of its data is of this task")

    def _longest(self, task: str, wanted: Wanted, rows: Seq[tuple[int, Row]]) -> list[Sample]:
        """Samples of the longest published length of which all that are drawn fit."""
        lengths = self.made(task, rows, lambda row: [number_in(row, self.lengths)])
        for length in sorted(set(lengths), reverse=True):
            alike = [row for row, its in zip(rows, lengths, strict=True) if its == length]
            every = self.made(task, alike, lambda row: self.asked(task, row))
            drawn = [sample for _, sample in self._drawn(task, wanted, every)]
            if all(_may_fit(wanted, each) and wanted.fits(each) for each in drawn):
                return drawn
        raise NoRoom(
            f"{self.name}/{task} has no samples of {wanted.length:,} tokens: its shortest "
            f"({self.lengths} {length}) are longer"
        )

    @abstractmethod
    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """The published figure first."""


def _may_fit(wanted: Wanted, sample: Sample) -> bool:
    """Whether its tokens have to be counted: what has very many characters is too long."""
    return len(sample.context) <= _CHARACTERS * wanted.length


__all__ = ["COUNTED", "HIDDEN", "NEEDLE_LIKE", "SPREAD", "PublishedBenchmark"]
