"""InfiniteBench: twelve tasks of retrieval, code, mathematics, novels and dialogues.

Zhang and others, "InfiniteBench: Extending Long Context Evaluation Beyond 100K Tokens", ACL 2024,
arXiv:2402.13718. A task is a file `NAME.jsonl` with fields id, context, input, answer, options.
Output limits are those of the released code, but where these are too short for a right reply of
other tokenizers: passkey and number_string have 32, kv_retrieval 100, math_find and code_run 16,
code_debug 32. The reply of math_calc may take 30,000 tokens, and at most half of the wanted length.

Ours differs: instructions are in our own words; the middle is cut out of the context alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass, replace
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.choices import LETTERS
from lengthwise.evaluation.scorers.table import scorer
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample, Wanted
from lengthwise.evaluation.tasks.published._shared.benchmark import (
    COUNTED,
    HIDDEN,
    NEEDLE_LIKE,
    SPREAD,
    PublishedBenchmark,
)
from lengthwise.evaluation.tasks.published._shared.files import Row, Source
from lengthwise.evaluation.tasks.published._shared.values import text_in, texts_in
from lengthwise.methods.options import option

_OPTIONS = "\n\n{options}\n\nReply with the letter of the right option alone."


@dataclass(frozen=True, slots=True)
class Asked:
    """A task. ask: with the row's {input} and {options}. most: tokens of a reply."""

    ask: str
    most: int
    score: str
    difficulty: Difficulty


TASKS: dict[str, Asked] = {
    "passkey": Asked("{input}", 32, "first_int", NEEDLE_LIKE),
    "number_string": Asked("{input}", 32, "first_int", NEEDLE_LIKE),
    "kv_retrieval": Asked("{input}", 100, "kv_value", HIDDEN),
    "longbook_sum_eng": Asked("Sum up the book above.", 1200, "rouge", SPREAD),
    "longbook_choice_eng": Asked(
        "Answer from the book above.\n\nQuestion: {input}" + _OPTIONS, 40, "infinite_choice",
        HIDDEN,
    ),
    "longbook_qa_eng": Asked(
        "Answer from the book above in as few words as you can.\n\nQuestion: {input}", 40,
        "squad_f1", HIDDEN,
    ),
    "longbook_qa_chn": Asked(
        "请根据上面的书简短地回答。\n\n问题：{input}", 40, "chinese_f1", HIDDEN,
    ),
    "longdialogue_qa_eng": Asked(
        'Somebody\'s name is hidden as "$$MASK$$" in the dialogue above. Whose is it? Reply with '
        "the name alone.", 40, "dialogue_name", HIDDEN,
    ),
    "math_find": Asked("{input}\n\nReply with the number alone.", 16, "math_find", COUNTED),
    "math_calc": Asked(
        "Work the expression above out from left to right. Reply with the result after each step, "
        "as a list of numbers and nothing else.", 30_000, "math_calc", COUNTED,
    ),
    "code_run": Asked("{input}\n\nReply with the value alone.", 16, "code_run", HIDDEN),
    "code_debug": Asked(
        "One of these functions of the code above holds an obvious error." + _OPTIONS, 32,
        "code_debug", HIDDEN,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class InfiniteBench(PublishedBenchmark):
    """InfiniteBench's twelve tasks from their files."""

    name: ClassVar[str] = "infinitebench"
    paper: ClassVar[Paper] = Paper(
        "InfiniteBench: Extending Long Context Evaluation Beyond 100K Tokens", "Zhang et al.",
        2024, arxiv="2402.13718", venue="ACL", code="https://github.com/OpenBMB/InfiniteBench",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        name: each.difficulty for name, each in TASKS.items()
    }

    compat: bool = option(True, "scores to the letter of the released code, with its faults")

    def source(self, task: str) -> Source:
        """`NAME.jsonl`, at the top of the hub's repository."""
        columns = ("context", "input", "answer", "options")
        return Source(
            (f"{task}.jsonl",), columns, "xinrongzhang2022/InfiniteBench", f"{task}.jsonl"
        )

    def samples(self, task: str, wanted: Wanted) -> Iterator[Sample]:
        """As of every published benchmark; math_calc's reply takes at most half of the length."""
        for sample in PublishedBenchmark.samples(self, task, self._room(task, wanted)):
            yield replace(sample, most=_most(task, wanted))

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A row is a sample."""
        of, options = TASKS[task], texts_in(row, "options", 0)
        named = "\n".join(
            f"{letter}. {each}" for letter, each in zip(LETTERS, options, strict=False)
        )
        question = of.ask.replace("{options}", named).replace("{input}", text_in(row, "input"))
        most = 0 if task == "math_calc" else of.most
        yield Sample(text_in(row, "context"), question, _right(task, row, options), most)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """The published figure."""
        kind = TASKS[task].score
        if kind == "rouge":
            found = scorer(kind, kind="rougeLsum")
        elif kind == "chinese_f1":
            found = scorer(kind, characters=True)
        else:
            found = scorer(kind)
        if "compat" in found.options:
            found = found.bind(compat=self.compat)
        return {found.name: found(said, sample.references)}

    def _room(self, task: str, wanted: Wanted) -> Wanted:
        """What is left of the length where `asked` counts no reply."""
        if task != "math_calc":
            return wanted
        return replace(wanted, length=wanted.length - _most(task, wanted))


def _right(task: str, row: Row, options: Seq[str]) -> tuple[str, ...]:
    one = not isinstance(row["answer"], list | tuple)
    right = (text_in(row, "answer"),) if one else texts_in(row, "answer")
    if task not in ("longbook_choice_eng", "code_debug"):
        return right
    if right[0] not in options[: len(LETTERS)]:
        raise ValueError(f"the answer {right[0]!r} is none of the options {', '.join(options)}")
    letter = LETTERS[options.index(right[0])]
    return (right[0], letter) if task == "code_debug" else (letter, right[0])


def _most(task: str, wanted: Wanted) -> int:
    most = TASKS[task].most
    return min(most, wanted.length // 2) if task == "math_calc" else most


__all__ = ["TASKS", "InfiniteBench"]
