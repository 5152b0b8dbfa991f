"""Needle Threading: values of keys, and threads of them, in JSON objects of UUIDs.

Roberts and others, "Needle Threading: Can LLMs Follow Threads through Near-Million-Scale
Haystacks?", ICLR 2025, arXiv:2411.05000. The published rows: haystack, keys, values, question,
context_length (characters, from 2,000). `threads` makes such samples of any length; here the
longest published length that fits is drawn from, and nothing is cut.

A single value is right if the reply begins with it. Of several, the share at their places counts;
for the condition, in any place. The reply to one key has up to 100 tokens, as published; of several
values 48 each, which is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.needles import literal
from lengthwise.evaluation.scorers.table import scorer
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample
from lengthwise.evaluation.tasks.published._shared.benchmark import (
    COUNTED,
    HIDDEN,
    NEEDLE_LIKE,
    SPREAD,
    PublishedBenchmark,
)
from lengthwise.evaluation.tasks.published._shared.files import Row, Source
from lengthwise.evaluation.tasks.published._shared.values import number_in, text_in, texts_in

MOST, _VALUE = 100, 48
# File and split of each task.
_FILES = {
    "single_needle": ("Single_Needle", "Single_Needle"),
    "multi_needle": ("Multiple_Needles", "Multi_Needle"),
    "conditional_needle": ("Conditional_Needles", "Conditional_Needle"),
    "single_thread": ("Single_Threads", "Single_Thread"),
    "multi_thread": ("Multi_Threads", "Multi_Thread"),
}
_ONE = ("single_needle", "single_thread")


@dataclass(frozen=True)
class NeedleThreading(PublishedBenchmark):
    """The published rows of Needle Threading."""

    name: ClassVar[str] = "needle_threading"
    paper: ClassVar[Paper] = Paper(
        "Needle Threading: Can LLMs Follow Threads through Near-Million-Scale Haystacks?",
        "Roberts et al.", 2025, arxiv="2411.05000", venue="ICLR",
        code="https://github.com/jonathan-roberts1/needle-threading",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        "single_needle": NEEDLE_LIKE,
        "multi_needle": COUNTED,
        "conditional_needle": SPREAD,
        "single_thread": HIDDEN,
        "multi_thread": SPREAD,
    }
    lengths: ClassVar[str] = "context_length"

    def source(self, task: str) -> Source:
        """A JSON file a task, a split of the hub's data set."""
        file, split = _FILES[task]
        columns = ("haystack", "values", "question", "context_length", "needle_depth")
        hub = "jonathan-roberts1/needle-threading"
        return Source((f"{file}.json",), columns, hub, split=split)

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A row is a sample; its depth is the needle's, where there is one."""
        right = _values(row["values"])
        most = MOST if task in _ONE else max(MOST, _VALUE * len(right))
        characters = number_in(row, "context_length")
        yield Sample(
            text_in(row, "haystack"), text_in(row, "question").strip(), right, most,
            depth=_depth(row["needle_depth"]), facts={"characters": characters},
        )  # fmt: skip

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """Whether the value is right, or the share of them that are."""
        if task in _ONE:
            return {"thread_value": scorer("thread_value")(said, sample.references)}
        by = scorer("thread_values", ordered=task != "conditional_needle")
        return {by.name: by(said, sample.references)}


def _values(given: object) -> tuple[str, ...]:
    """One value or several, as a list or as the text of one."""
    found = literal(given) if isinstance(given, str) else given
    values = found if isinstance(found, list | tuple) else [found]
    return texts_in({"values": values}, "values")


def _depth(given: object) -> float | None:
    """Percents as a share; None where there is no one place."""
    try:
        return float(str(given)) / 100
    except ValueError:
        return None


__all__ = ["MOST", "NeedleThreading"]
