"""LongBench v2: 503 questions with four options, over documents of 8k to 2M words.

Bai and others, "LongBench v2: Towards Deeper Understanding and Reasoning on Realistic Long-context
Multitasks", ACL 2025, arXiv:2412.15204. One file `data.json` with fields domain, sub_domain,
difficulty, length (short, medium, long), question, choice_A to choice_D, answer, context. A task is
a domain. The reply is up to 128 tokens. Its letter is the first in brackets behind "The correct
answer is", else the first without, stars left out; a reply without either is wrong.

Ours differs: the instruction is in our own words; the middle is cut out of the context alone;
there is no reply with thoughts before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.choices import LETTERS
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample
from lengthwise.evaluation.tasks.published._shared.benchmark import (
    COUNTED,
    HIDDEN,
    SPREAD,
    PublishedBenchmark,
)
from lengthwise.evaluation.tasks.published._shared.files import Row, Source
from lengthwise.evaluation.tasks.published._shared.values import text_in

MOST = 128
DOMAINS = {
    "single_document_qa": "Single-Document QA",
    "multi_document_qa": "Multi-Document QA",
    "long_in_context_learning": "Long In-context Learning",
    "long_dialogue": "Long-dialogue History Understanding",
    "code_repository": "Code Repository Understanding",
    "structured_data": "Long Structured Data Understanding",
}
_ASK = (
    "Choose the right answer to this question about the text above.\n\n{question}\n\n{options}\n\n"
    'Reply in the form "The correct answer is (letter)".'
)
_STATED = (r"The correct answer is \(([A-D])\)", r"The correct answer is ([A-D])")
_COLUMNS = ("domain", "question", "answer", "context", *(f"choice_{each}" for each in LETTERS))


@dataclass(frozen=True)
class LongBenchV2(PublishedBenchmark):
    """LongBench v2, a task a domain."""

    name: ClassVar[str] = "longbench_v2"
    paper: ClassVar[Paper] = Paper(
        "LongBench v2: Towards Deeper Understanding and Reasoning on Realistic Long-context "
        "Multitasks", "Bai et al.", 2025, arxiv="2412.15204", venue="ACL",
        code="https://github.com/THUDM/LongBench",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        "single_document_qa": HIDDEN,
        "multi_document_qa": SPREAD,
        "long_in_context_learning": COUNTED,
        "long_dialogue": HIDDEN,
        "code_repository": SPREAD,
        "structured_data": SPREAD,
    }

    def source(self, task: str) -> Source:
        """`data.json`, which has all domains."""
        return Source(("data.json",), _COLUMNS, "THUDM/LongBench-v2", "data.json")

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A row of the domain is a sample."""
        if row["domain"] != DOMAINS[task]:
            return
        options = "\n".join(f"({each}) {text_in(row, f'choice_{each}')}" for each in LETTERS)
        right = text_in(row, "answer")
        if right not in LETTERS:
            raise ValueError(f"column 'answer' holds {right!r}; wanted is A, B, C or D")
        # In this order: a question may hold the marks of a template.
        question = _ASK.replace("{options}", options)
        question = question.replace("{question}", text_in(row, "question"))
        facts = {"length": row.get("length", ""), "difficulty": row.get("difficulty", "")}
        yield Sample(text_in(row, "context"), question, (right,), MOST, facts=facts)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """Whether the letter that is stated is right."""
        plain = said.replace("*", "")
        letter = next((found[1] for form in _STATED if (found := re.search(form, plain))), "")
        return {"letter": float(letter in sample.references)}


__all__ = ["DOMAINS", "MOST", "LongBenchV2"]
