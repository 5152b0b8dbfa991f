"""L-Eval: twenty sets of long documents, each with several questions.

An and others, "L-Eval: Instituting Standardized Evaluation for Long Context Language Models", ACL
2024, arXiv:2307.11088. A set is a file `NAME.jsonl`; a row is a document: instructions, outputs,
input, source, evaluation. Each instruction is a sample, and those of one document stand together.
Seven closed sets are scored by exam rules, thirteen open ones by F1 of words (questions) or ROUGE
(summaries: rouge1, rouge2, rougeL each; the paper takes the geometric mean of their means). Replies
have up to 512 tokens. Open questions say how many words are wanted, those of the reference.

Ours differs: instructions are in our own words; rows marked for people or judges are read too, but
scored by the same figures; without `words` the number of words is not said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.scorers.table import Scorer, scorer
from lengthwise.evaluation.tasks.benchmark import Difficulty, Sample
from lengthwise.evaluation.tasks.published._shared.benchmark import (
    COUNTED,
    HIDDEN,
    SPREAD,
    PublishedBenchmark,
)
from lengthwise.evaluation.tasks.published._shared.files import Row, Source
from lengthwise.evaluation.tasks.published._shared.values import text_in, texts_in
from lengthwise.methods.options import option

MOST = 512
_LETTER = "\n\nReply with the letter of the right option alone."
_PLAIN = "\n\nAnswer from the document above."
# What is added to a question, and how a reply is scored.
_CLOSED = {
    "coursera": ("\n\nReply with the letters of all right options alone, such as A or AB.",
                 "exam_letters", HIDDEN),
    "quality": (_LETTER, "exam_letters", HIDDEN),
    "topic_retrieval_longchat": ("\n\nReply with the name of the topic alone.", "exam_answer",
                                 Difficulty("low", "low")),
    "tpo": (_LETTER, "exam_letters", HIDDEN),
    "gsm100": ('\n\nSolve it as in the examples, and end with "The answer is" and the number.',
               "exam_number", COUNTED),
    "codeU": ('\n\nWhat is printed at the end? End with "the final output is" and it.',
              "exam_output", HIDDEN),
    "sci_fi": ('\n\nReply "True" or "False" by the story, and in brackets what is so in the world, '
               'as in: True [fact: False]', "exam_verdict", HIDDEN),
}  # fmt: skip
_QUESTIONS = (
    "financial_qa", "legal_contract_qa", "multidoc_qa", "narrative_qa", "natural_question",
    "scientific_qa",
)  # fmt: skip
_SUMMARIES = (
    "gov_report_summ", "meeting_summ", "news_summ", "paper_assistant", "patent_summ",
    "review_summ", "tv_show_summ",
)  # fmt: skip


@dataclass(frozen=True)
class LEval(PublishedBenchmark):
    """L-Eval, closed and open sets."""

    name: ClassVar[str] = "l_eval"
    paper: ClassVar[Paper] = Paper(
        "L-Eval: Instituting Standardized Evaluation for Long Context Language Models",
        "An et al.", 2024, arxiv="2307.11088", venue="ACL",
        code="https://github.com/OpenLMLab/LEval",
    )  # fmt: skip
    tasks: ClassVar[Mapping[str, Difficulty]] = {
        **{name: difficulty for name, (_, _, difficulty) in _CLOSED.items()},
        **dict.fromkeys(_QUESTIONS, HIDDEN),
        **dict.fromkeys(_SUMMARIES, SPREAD),
    }

    compat: bool = option(True, "scores to the letter of the released code, with its faults")
    words: bool = option(True, "open questions say how many words are wanted")

    def source(self, task: str) -> Source:
        """`NAME.jsonl`, on the hub below a folder of closed or open tasks."""
        folder = "Exam" if task in _CLOSED else "Generation"
        columns = ("instructions", "outputs", "input")
        return Source((f"{task}.jsonl",), columns, "L4NLP/LEval", f"LEval/{folder}/{task}.jsonl")

    def asked(self, task: str, row: Row) -> Iterator[Sample]:
        """A sample an instruction, all of one document."""
        asked, right = texts_in(row, "instructions"), texts_in(row, "outputs")
        if len(asked) != len(right):
            raise ValueError(
                f"{len(asked)} instructions and {len(right)} outputs; as many of both are wanted"
            )
        for question, answer in zip(asked, right, strict=True):
            if task in _CLOSED:
                more = _CLOSED[task][0]
            else:
                words = len(answer.split())
                more = f" Use about {words} words." if self.words else ""
                more = _PLAIN + more
            yield Sample(text_in(row, "input"), f"{question}{more}", (answer,), MOST)

    def score(self, task: str, said: str, sample: Sample) -> Mapping[str, float]:
        """The figure of an exam, F1, or ROUGE-L with the two others."""
        if task in _CLOSED:
            by = self._exam(task)
            return {by.name: by(said, sample.references)}
        if task in _QUESTIONS:
            by = scorer("squad_f1", compat=self.compat)
            return {by.name: by(said, sample.references)}
        kinds = ("rougeL", "rouge1", "rouge2")
        return {kind: scorer("rouge", kind=kind)(said, sample.references) for kind in kinds}

    def _exam(self, task: str) -> Scorer:
        found = scorer(_CLOSED[task][1])
        if "compat" in found.options:
            found = found.bind(compat=self.compat)
        return found.bind(several=True) if task == "coursera" else found


__all__ = ["MOST", "LEval"]
