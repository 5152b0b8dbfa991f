"""LongProc: procedures that are written out at length, from the published rows.

Ye and others, "LongProc: Benchmarking Long-Context Language Models on Long Procedural Generation",
COLM 2025, arXiv:2501.05414. The six procedures, at the levels of 0.5k, 2k and 8k tokens:

    html_to_tsv      a table of what a web page lists: F1 of rows
    pseudo_to_code   C++, which a sandbox compiles and runs (`_shared/pseudo_code`); no 8k
    path_traversal   a way through cities
    tom_tracking     who believes what, step by step
    countdown        a number from four others, with the search for it
    travel_planning  a trip under constraints, with the search for it; no 0.5k

All but tables: accuracy first, then how far the reply is right. Prompts are the published ones to
the letter. They end with the question; what stands before is the context. A reply has as many
tokens as the authors' example allows: 1,024, 3,072 or 9,216 (HELMET allows 10,240 at 8k).

The rows come from the hub's data set (input_prompt, reference_output, metadata), or from a folder
with its Parquet files, or from `data` of the authors' repository, whose rows are made into the same
(`_longproc`). Nothing is cut. Web pages differ much in length, so that those too long are passed
over, which is said; of the others one too long is an error. `procedures` makes some of any size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers.countdown import countdown
from lengthwise.evaluation.scorers.procedures import ProcedureScores, beliefs, route, travel
from lengthwise.evaluation.scorers.rows import row_scores
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample
from lengthwise.evaluation.tasks.published._longproc import COLUMNS, FILES, Repository
from lengthwise.evaluation.tasks.published._shared import pseudo_code
from lengthwise.evaluation.tasks.published._shared.benchmark import SPREAD, PublishedBenchmark
from lengthwise.evaluation.tasks.published._shared.files import (
    Row,
    Source,
    lacking,
    local_file,
)
from lengthwise.evaluation.tasks.published._shared.values import number_in, numbers_in, text_in
from lengthwise.methods.options import option

# Tokens of a reply at each level.
LEVELS = {"0.5k": 1024, "2k": 3072, "8k": 9216}
_HUB = "PrincetonPLI/LongProc"
_HUB_COLUMNS = ("input_prompt", "reference_output", "metadata")


def _table(said: str, sample: Sample, compat: bool) -> Mapping[str, float]:
    found = row_scores(said, sample.references[0])
    extracted = float(found.extracted)
    return {
        "f1": found.f1, "precision": found.precision, "recall": found.recall,
        "extracted": extracted,
    }  # fmt: skip


def _code(said: str, sample: Sample, compat: bool) -> Mapping[str, float]:
    return _shares(pseudo_code.code_scores(said, sample.facts["tests"], compat=compat))


def _route(said: str, sample: Sample, compat: bool) -> Mapping[str, float]:
    return _shares(route(said, sample.references[0], compat=compat))


def _beliefs(said: str, sample: Sample, compat: bool) -> Mapping[str, float]:
    return _shares(beliefs(said, sample.references[0]))


def _countdown(said: str, sample: Sample, compat: bool) -> Mapping[str, float]:
    return _shares(countdown(said, sample.references[0], compat=compat, **sample.facts))


def _travel(said: str, sample: Sample, compat: bool) -> Mapping[str, float]:
    return _shares(travel(said, sample.references[0], compat=compat, **sample.facts))


def _shares(found: ProcedureScores) -> Mapping[str, float]:
    extracted = float(found.extracted)
    return {"accuracy": found.accuracy, "partial": found.partial, "extracted": extracted}


def _puzzle(known: Row) -> dict[str, Any]:
    return {"numbers": numbers_in(known, "nums"), "target": number_in(known, "target")}


def _trip(known: Row) -> dict[str, Any]:
    cities = [each for each in text_in(known, "ground_truth_cities").split("**") if each]
    days = [int(each) for each in text_in(known, "ground_truth_durations").split("**") if each]
    if not cities or len(cities) != len(days):
        raise ValueError(f"a plan of {len(cities)} cities and {len(days)} stays")
    return {"cities": cities, "days": days}


@dataclass(frozen=True, slots=True)
class Procedure:
    """A kind of task.

    asked: paragraphs at the end of a prompt that are the question. score: of a reply and a sample,
    with the released faults or without. facts: that the score needs, of a row's metadata. levels:
    that there are.
    """

    asked: int
    score: Callable[[str, Sample, bool], Mapping[str, float]]
    facts: Callable[[Row], dict[str, Any]] = lambda known: {}
    levels: tuple[str, ...] = tuple(LEVELS)


KINDS = {
    "html_to_tsv": Procedure(4, _table),
    pseudo_code.KIND: Procedure(1, _code, pseudo_code.facts_of, pseudo_code.LEVELS),
    "path_traversal": Procedure(1, _route),
    "tom_tracking": Procedure(2, _beliefs),
    "countdown": Procedure(1, _countdown, _puzzle),
    "travel_planning": Procedure(3, _travel, _trip, ("2k", "8k")),
}


@dataclass(frozen=True)
class LongProc(PublishedBenchmark):
    """Six procedures, up to three levels each."""

    name: ClassVar[str] = "longproc"
    paper: ClassVar[Paper] = Paper(
        "LongProc: Benchmarking Long-Context Language Models on Long Procedural Generation",
        "Ye et al.", 2025, arxiv="2501.05414", venue="COLM",
        code="https://github.com/princeton-pli/LongProc",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        f"{kind}_{level}": SPREAD for kind, each in KINDS.items() for level in each.levels
    }
    whole: ClassVar[bool] = True

    compat: bool = option(True, "scores to the letter of the released code, with its faults")

    def source(self, task: str) -> Source:
        """The hub's rows, or a file of the authors' repository where one lies in `data`."""
        kind = _kind(task)
        names = (f"{task}/test-00000-of-00001.parquet", f"{task}.parquet", f"{task}.jsonl")
        hub = Source(names, _HUB_COLUMNS, _HUB, config=task)
        file = FILES.get(kind, "{task}.json").replace("{task}", task)
        authors = Source((file,), COLUMNS.get(kind, ()))
        if not self.data or local_file(hub, self.data):
            return hub
        if local_file(authors, self.data):
            return authors
        return replace(hub, files=(file, *names))

    def missing(self, task: str) -> str:
        """The file; for code, leave to run it and a compiler are said first."""
        code = pseudo_code.missing() if _kind(task) == pseudo_code.KIND else ""
        return code or super().missing(task)

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A row is a sample; of a file of several levels, one of the level."""
        if "input_prompt" not in row:
            found = _repository(self, task).row(row)
            if found is None:
                return
            row = found
        known = row["metadata"]
        kind = KINDS[_kind(task)]
        facts = kind.facts(json.loads(known) if isinstance(known, str) else known)
        prompt, right = text_in(row, "input_prompt").rstrip(), text_in(row, "reference_output")
        parts = prompt.rsplit("\n\n", kind.asked)
        context = parts[0] if len(parts) > kind.asked else ""
        question = "\n\n".join(parts[1:]) if context else prompt
        most = LEVELS[task.rpartition("_")[2]]
        yield Sample(context, question, (right,), most, facts=facts)

    def passes_over(self, task: str) -> bool:
        """Web pages, of 7 to 900 thousand characters."""
        return _kind(task) == "html_to_tsv"

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """Accuracy and how far the reply is right, or F1 of rows; whether any was found."""
        return KINDS[_kind(task)].score(said, sample, self.compat)


@lru_cache(maxsize=16)
def _repository(benchmark: LongProc, task: str) -> Repository:
    """The authors' folder with the file of a task, found once for all of its rows."""
    name, source = f"longproc/{task}", benchmark.source(task)
    path = local_file(source, benchmark.data)
    if path is None:
        raise LengthwiseError(f"{name} needs {lacking(name, source, benchmark.data)}")
    return Repository(task, path)


def _kind(task: str) -> str:
    return task.rpartition("_")[0]


__all__ = ["KINDS", "LEVELS", "LongProc", "Procedure"]
