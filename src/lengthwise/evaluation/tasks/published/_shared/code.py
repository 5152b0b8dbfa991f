"""Problems of published files whose replies are programs: several replies each, other functions."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.sandbox.run import code_missing
from lengthwise.evaluation.scorers.programs import passes
from lengthwise.evaluation.tasks.benchmark import NoRoom, Sample, Wanted, largest
from lengthwise.evaluation.tasks.published._shared.benchmark import PublishedBenchmark
from lengthwise.evaluation.tasks.published._shared.files import Row, rows_of
from lengthwise.methods.options import option

_LEAD = "Functions of a module:\n\n"


@dataclass(frozen=True)
class CodeBenchmark(PublishedBenchmark):
    """A row becomes as many samples as replies are wanted, each scored by running it."""

    # At which the paper samples.
    usual_temperature: ClassVar[float]

    chat: bool = option(False, "ask in the chat template for a block of code")
    filled: bool = option(False, "put as many other functions of the data before it as fit (ours)")
    replies: int = option(1, "of each problem, for pass@k", low=1, high=1000)
    temperature: float = option(0.0, "of sampled replies; 0 is greedy", low=0, high=2)

    def missing(self, task: str) -> str:
        """The file, or leave to run code: that is said first, whatever else is missing."""
        return code_missing() or super().missing(task)

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """Problems drawn by the seed; `wanted.samples` counts their replies.

        Raises:
            NoRoom: for too little length.
            LengthwiseError: for data that is absent or of another form, and replies that are more
                than samples, or more than one and all alike.
        """
        if self.replies > wanted.samples:
            raise LengthwiseError(
                f"{self.name} wants {self.replies} replies a problem of {wanted.samples} samples: "
                f"give at least {self.replies} samples, or fewer replies"
            )
        if self.replies > 1 and not self.temperature:
            raise LengthwiseError(
                f"{self.name}: {self.replies} greedy replies are all alike; give a temperature, as "
                f"in {self.name}(replies={self.replies}, temperature={self.usual_temperature})"
            )
        rows = rows_of(f"{self.name}/{task}", self.source(task), self.data)
        few = replace(wanted, samples=wanted.samples // self.replies)
        problems = self.made(task, enumerate(rows, 1), partial(self._problems, task))
        for place, row in self._drawn(task, few, problems):
            sample = self._fitted(task, wanted, row, rows)
            for number in range(self.replies):
                draw = random.Random(f"{task} {wanted.seed} {place} {number}")
                yield replace(sample, temperature=self.temperature, seed=draw.getrandbits(31))

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """Whether the program passes; a verdict of the sandbox for one that does not."""
        return passes(self.program(said, sample), str(sample.facts["checks"]))

    def is_asked(self, row: Row) -> bool:
        """Whether a row is a problem, and not one that is shown."""
        return True

    @abstractmethod
    def problem(self, task: str, row: Row, rows: Seq[Row]) -> Sample:
        """A problem, with its `checks` among the facts."""

    @abstractmethod
    def function(self, row: Row) -> str:
        """The right program of a problem."""

    @abstractmethod
    def program(self, said: str, sample: Sample) -> str:
        """What is run of a reply."""

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A problem without what other rows give."""
        yield self.problem(task, row, [])

    def _problems(self, task: str, row: Row) -> list[Row]:
        """The row, where it is a problem; what it lacks is found here, with its number."""
        return [row] if self.is_asked(row) and list(self.asked(task, row)) else []

    def _fitted(self, task: str, wanted: Wanted, row: Row, rows: Seq[Row]) -> Sample:
        sample = self.problem(task, row, rows)
        if not wanted.fits(sample):
            raise NoRoom(
                f"a problem of {self.name}/{task} with a reply of {sample.most:,} tokens is longer "
                f"than {wanted.length:,} tokens: give a greater length"
            )
        if not self.filled:
            return sample
        others = [self.function(each).strip() for each in rows if each is not row]
        random.Random(f"{task} {wanted.seed}").shuffle(others)

        def build(count: int) -> Sample:
            before = _LEAD + "\n\n\n".join(others[:count]) + "\n\n\n" if count else ""
            return replace(sample, context=before + sample.context, own=sample.context)

        return largest(wanted, build, least=0, greatest=len(others))


__all__ = ["CodeBenchmark"]
