"""Ada-LEval: the best of many answers, and the order of four shuffled pieces of a book.

Wang and others, "Ada-LEval: Evaluating long-context LLMs with length-adaptable benchmarks", NAACL
2024, arXiv:2404.06480. Files are `stackselect_1k.json` to `_128k.json` (question_id, question,
all_answers, answer as "A5") and `textsort_2k.json` to `_128k.json` (book_id, answer, prompt), a
length each; both are made by the authors and are not on the hub. A sample must be read whole, so
that one that is too long is an error, never cut.

The reply is read as the released code does, of several designations the highest; `compat` keeps its
fault of short orders, by which "[]" is always right. Ours differs: instructions of BestAnswer are
in our own words, and stand behind the answers alone. TSort's whole prompt is published; what is
before its last paragraph is the context, that paragraph the question.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.table import scorer
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample
from lengthwise.evaluation.tasks.published._shared.benchmark import (
    HIDDEN,
    SPREAD,
    PublishedBenchmark,
)
from lengthwise.evaluation.tasks.published._shared.files import Row, Source
from lengthwise.evaluation.tasks.published._shared.values import numbers_in, text_in, texts_in
from lengthwise.methods.options import option

# Published lengths, in thousands of GPT-4's tokens.
_BEST = (1, 2, 4, 6, 8, 12, 16, 32, 64, 128)
_SORT = (2, 4, 8, 16, 32, 64, 128)
_ASK = (
    "Above are a question and several answers to it, each behind its designation: an A and a "
    "number. Which answer helps most? Reply with its designation alone, such as A4."
)
# A designation, and a list of four numbers with its front: the limits are ours.
_MOST = {"best": 16, "sort": 32}


@dataclass(frozen=True)
class AdaLEval(PublishedBenchmark):
    """BestAnswer (`best_8k`) and TSort (`sort_8k`) at each published length."""

    name: ClassVar[str] = "ada_leval"
    paper: ClassVar[Paper] = Paper(
        "Ada-LEval: Evaluating long-context LLMs with length-adaptable benchmarks", "Wang et al.",
        2024, arxiv="2404.06480", venue="NAACL", code="https://github.com/open-compass/Ada-LEval",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        **{f"best_{size}k": HIDDEN for size in _BEST},
        **{f"sort_{size}k": SPREAD for size in _SORT},
    }
    whole: ClassVar[bool] = True

    compat: bool = option(True, "scores to the letter of the released code, with its faults")

    def source(self, task: str) -> Source:
        """`stackselect_8k.json` or `textsort_8k.json`."""
        kind, _, size = task.partition("_")
        if kind == "best":
            return Source((f"stackselect_{size}.json",), ("question", "all_answers", "answer"))
        return Source((f"textsort_{size}.json",), ("prompt", "answer"))

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A row is a sample."""
        if task.startswith("best"):
            answers = [f"A{n}:\n\n{text}" for n, text in enumerate(texts_in(row, "all_answers"), 1)]
            text = "\n\n".join([f"Question:\n\n{text_in(row, 'question')}", *answers])
            facts = {"choices": len(answers)}
            yield Sample(text, _ASK, (text_in(row, "answer"),), _MOST["best"], facts=facts)
            return
        text, _, last = text_in(row, "prompt").strip().rpartition("\n\n")
        order = json.dumps(numbers_in(row, "answer"))
        yield Sample(text, last, (order,), _MOST["sort"])

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """Whether the designation, or the order, is right."""
        if task.startswith("best"):
            by = scorer("best_answer", choices=sample.facts["choices"])
        else:
            by = scorer("permutation", compat=self.compat)
        return {by.name: by(said, sample.references)}


__all__ = ["AdaLEval"]
