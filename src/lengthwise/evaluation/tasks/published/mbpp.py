"""MBPP: short Python functions from a sentence and their tests, run.

Austin and others, "Program Synthesis with Large Language Models", 2021, arXiv:2108.07732. `full` is
`mbpp.jsonl` (974 rows: task_id, text, code, test_list, test_setup_code), `sanitized` the part that
was checked by hand, `sanitized-mbpp.json` (prompt in place of text, test_imports). Tasks 11 to 510
are asked, behind three solved ones (2, 3 and 4) in the paper's form: the task, its tests, [BEGIN],
code, [DONE]. The reply ends at [DONE]. It is run with its tests, for 3 seconds. The score is
pass@1, greedy; the paper samples 80 replies at temperature 0.5, for which `replies` and
`temperature` are, and `lengthwise eval show RUN --pass-at 80`.

    chat      asks for a block of code in a chat template, without solved tasks
    filled    other functions of the file before it, as many as fit the length

Ours differs: the role line is in our own words; replies have up to 512 tokens; no package is there
but the standard library. Tasks are short, so a length is only what has to hold them unless
`filled`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers.programs import fenced
from lengthwise.evaluation.scorers.replies import cut_at
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample
from lengthwise.evaluation.tasks.published._shared.benchmark import NEEDLE_LIKE
from lengthwise.evaluation.tasks.published._shared.code import CodeBenchmark
from lengthwise.evaluation.tasks.published._shared.files import Row, Source
from lengthwise.evaluation.tasks.published._shared.values import number_in, text_in, texts_in

MOST = 512
SHOTS = (2, 3, 4)
ASKED = range(11, 511)
STOP = "[DONE]"
_LEAD = (
    "You write Python like an expert. This is your task: {text} These tests must pass:\n\n{tests}\n"
)
_CHAT = "\nReply with the code alone, in one block of Python."


@dataclass(frozen=True)
class MBPP(CodeBenchmark):
    """The whole set, and the part that was checked."""

    name: ClassVar[str] = "mbpp"
    paper: ClassVar[Paper] = Paper(
        "Program Synthesis with Large Language Models", "Austin et al.", 2021, arxiv="2108.07732",
        code="https://github.com/google-research/google-research/tree/master/mbpp",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {"full": NEEDLE_LIKE, "sanitized": NEEDLE_LIKE}
    usual_temperature: ClassVar[float] = 0.5

    def source(self, task: str) -> Source:
        """`mbpp.jsonl`, `sanitized-mbpp.json`; on the hub the splits that are asked or shown."""
        columns = ("task_id", "text" if task == "full" else "prompt", "code", "test_list")
        files = ("mbpp.jsonl",) if task == "full" else ("sanitized-mbpp.json",)
        hub = "google-research-datasets/mbpp"
        return Source(files, columns, hub, config=task, split="prompt+test")

    def is_asked(self, row: Row) -> bool:
        """Whether it is of the test split."""
        return number_in(row, "task_id") in ASKED

    def problem(self, task: str, row: Row, rows: Seq[Row]) -> Sample:
        """The task with its tests, behind the solved ones."""
        imports, setup = row.get("test_imports") or (), row.get("test_setup_code") or ""
        checks = "\n".join([*imports, setup, *texts_in(row, "test_list"), ""])
        facts, right = {"checks": checks}, (text_in(row, "code"),)
        if self.chat:
            return Sample("", _task(row).rstrip() + _CHAT, right, MOST, facts=facts)
        shots = [_shot(each) for each in rows if number_in(each, "task_id") in SHOTS]
        if rows and len(shots) < len(SHOTS):
            raise LengthwiseError(
                f"mbpp/{task}: its data has not all of tasks {SHOTS}, which are shown; give the "
                "whole published file"
            )
        return Sample(
            "\n\n".join(shots), f"{_task(row)}[BEGIN]\n", right, MOST, facts=facts, chat=False,
            stop=(STOP,),
        )  # fmt: skip

    def function(self, row: Row) -> str:
        """The published code."""
        return str(row["code"]).replace("\r\n", "\n")

    def program(self, said: str, sample: Sample) -> str:
        """Up to [DONE]; of a chat, its block of code."""
        block = fenced(said)
        return block if self.chat and block is not None else cut_at(said, (STOP,))


def _task(row: Row) -> str:
    text = text_in(row, "prompt" if "prompt" in row else "text")
    return _LEAD.format(text=text, tests="\n".join(texts_in(row, "test_list")))


def _shot(row: Row) -> str:
    code = str(row["code"]).replace("\r\n", "\n").rstrip()
    return f"{_task(row)}[BEGIN]\n{code}\n{STOP}"


__all__ = ["ASKED", "MOST", "SHOTS", "STOP", "MBPP"]
