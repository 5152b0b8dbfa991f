"""LongProc: procedures that are written out at length, from the published files.

Ye and others, "LongProc: Benchmarking Long-Context Language Models on Long Procedural Generation",
COLM 2025, arXiv:2501.05414. Three of the six are here: path traversal (context_nl, question_repr,
answer_nl) and theory of mind (story, question, solution), at the levels of 0.5k, 2k and 8k tokens,
and pseudo-code to code (`_shared/pseudo_code.py`), at the first two.
The files lie in the authors' repository: `path_traversal_2k.json` with `prompts.yaml` beside it,
whose USER_PROMPT is asked to the letter. What stands up to the map or story is the context, what
follows the question. Nothing is cut. A reply may have half as many tokens again as its level.

Accuracy comes first, the partial score second. `procedures` makes countdown and others of any size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lengthwise._utils.messages import first_line
from lengthwise._utils.papers import Paper
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers.procedures import beliefs, route
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample
from lengthwise.evaluation.tasks.published._shared import pseudo_code
from lengthwise.evaluation.tasks.published._shared.benchmark import SPREAD, PublishedBenchmark
from lengthwise.evaluation.tasks.published._shared.files import Row, Source, local_file
from lengthwise.methods.options import option

LEVELS = {"0.5k": 512, "2k": 2048, "8k": 8192}
# The long field of a prompt, and the columns of a row.
_LONG = {"path_traversal": "{city_context}", "tom_tracking": "{story}"}
_COLUMNS = {
    "path_traversal": ("context_nl", "question_repr", "answer_nl"),
    "tom_tracking": ("story", "question", "solution"),
}


@dataclass(frozen=True)
class LongProc(PublishedBenchmark):
    """Path traversal and theory of mind, three levels each; pseudo-code to code, two."""

    name: ClassVar[str] = "longproc"
    paper: ClassVar[Paper] = Paper(
        "LongProc: Benchmarking Long-Context Language Models on Long Procedural Generation",
        "Ye et al.", 2025, arxiv="2501.05414", venue="COLM",
        code="https://github.com/princeton-pli/LongProc",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        **{f"{kind}_{level}": SPREAD for kind in _LONG for level in LEVELS},
        **{f"{pseudo_code.KIND}_{level}": SPREAD for level in pseudo_code.LEVELS},
    }
    whole: ClassVar[bool] = True

    compat: bool = option(True, "scores to the letter of the released code, with its faults")

    def source(self, task: str) -> Source:
        """`NAME_LEVEL.json`, which is not on the hub."""
        if task.startswith(pseudo_code.KIND):
            return Source((f"{task}.json",), pseudo_code.COLUMNS)
        return Source((f"{task}.json",), _COLUMNS[task.rpartition("_")[0]])

    def missing(self, task: str) -> str:
        """The file; for code also leave to run it, and a compiler."""
        code = pseudo_code.missing() if task.startswith(pseudo_code.KIND) else ""
        return code or super().missing(task)

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A row is a sample."""
        kind, _, level = task.rpartition("_")
        long = _LONG.get(kind, pseudo_code.LONG)
        before, _, behind = self._prompt(task).partition(long)
        if kind == pseudo_code.KIND:
            lines, right = ("\n".join(row[each]) for each in pseudo_code.COLUMNS[:2])
            yield Sample(
                f"{_filled(before, {})}{lines}", _filled(behind, {}).strip(), (right,),
                LEVELS[level] * 3 // 2, facts=pseudo_code.facts_of(row),
            )  # fmt: skip
            return
        if kind == "path_traversal":
            text, right = str(row["context_nl"]), str(row["answer_nl"])
            start, end = row["question_repr"]
            fields = {"src_city": str(start), "dst_city": str(end)}
        else:
            text, right = str(row["story"]), str(row["solution"])
            fields = {"question": str(row["question"])}
        context = f"{_filled(before, fields)}{text}"
        most = LEVELS[level] * 3 // 2
        yield Sample(context, _filled(behind, fields).strip(), (right,), most)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """Accuracy, and how far the reply is right."""
        if task.startswith(pseudo_code.KIND):
            tests = sample.facts["tests"]
            found = pseudo_code.code_scores(said, tests, compat=self.compat)
        elif task.startswith("path"):
            found = route(said, sample.references[0], compat=self.compat)
        else:
            found = beliefs(said, sample.references[0])
        return {"accuracy": found.accuracy, "partial": found.partial}

    def _prompt(self, task: str) -> str:
        """USER_PROMPT of the file beside the data."""
        import yaml  # type: ignore[import-untyped]

        long = _LONG.get(task.rpartition("_")[0], pseudo_code.LONG)
        data = local_file(self.source(task), self.data)
        path = (data.parent if data else Path(self.data)) / "prompts.yaml"
        try:
            found: Any = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise LengthwiseError(
                f"longproc/{task}: {path} cannot be read ({first_line(error)}); it is published "
                "beside the data"
            ) from error
        prompt = found.get("USER_PROMPT") if isinstance(found, dict) else None
        if not isinstance(prompt, str) or long not in prompt:
            raise LengthwiseError(
                f"longproc/{task}: {path} has no USER_PROMPT with {long}; give the file "
                "that is published beside the data"
            )
        return prompt


def _filled(text: str, fields: Mapping[str, str]) -> str:
    """A part of a template with its fields, in one pass: braces of what is filled in stay."""

    def found(mark: re.Match[str]) -> str:
        return mark[0][0] if mark[1] is None else fields.get(mark[1], mark[0])

    return re.sub(r"\{\{|\}\}|\{(\w+)\}", found, text)


__all__ = ["LEVELS", "LongProc"]
