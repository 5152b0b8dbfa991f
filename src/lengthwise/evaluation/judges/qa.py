"""An answer against right ones: HELMET's judge of long-document questions.

Yen et al., "HELMET: How to Evaluate Long-Context Language Models Effectively and Thoroughly", ICLR
2025, arXiv:2410.02694. The judge does not see the document but right answers, and gives JSON with
fluency (0 or 1) and correctness:

    0 it agrees with none of them           1 it agrees in part with one
    2 it agrees, with what has nothing to do with the question beside it
    3 it agrees, and all of it is about the question

The score is their product, 0 to 3. Judged is what stands behind "Answer:", else the whole reply.

Ours differs: words are ours, with other examples, and numbers outside these ranges cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.judges.answers import last_object, whole_in
from lengthwise.evaluation.judges.judge import Case, listed
from lengthwise.evaluation.scorers.replies import after_prefix

HELMET = Paper(
    "HELMET: How to Evaluate Long-Context Language Models Effectively and Thoroughly",
    "Yen et al.", 2025, arxiv="2410.02694", venue="ICLR",
    code="https://github.com/princeton-nlp/HELMET",
)  # fmt: skip
_PROMPT = """\
You are an impartial judge of an answer to a question about a text. You do not see the text, but \
correct answers that deserve full marks. Judge the answer by them.

Fluency:
- 0: incoherent, repetitive, broken off or gibberish. A coherent answer that repeats itself or is \
incomplete is 0, too.
- 1: coherent, fluent and grammatical, without repetition.

Correctness:
- 0, wrong: it agrees with none of the correct answers.
- 1, partly right: it agrees in part with one of them, as where a name and a year are asked for \
and the name alone is right.
- 2, right but not to the point: it agrees with one of them, and says things beside it that have \
nothing to do with the question. More detail about what was asked is no such thing.
- 3, right and to the point: it agrees with one of them, and all of it is about the question. It \
may be longer: where "the lighthouse" is correct, "They met at the lighthouse" is a 3.

Question: {question}
Correct answers: {references}
Answer: {reply}

Think step by step and explain your judgement first. Then give the numbers as JSON with the fields \
"fluency" and "correctness"."""


@dataclass(frozen=True)
class QA:
    """HELMET's judge of answers. The score is fluency times correctness."""

    name: ClassVar[str] = "qa"
    paper: ClassVar[Paper] = HELMET
    scale: ClassVar[tuple[float, float]] = (0.0, 3.0)
    most: ClassVar[int] = 1024
    compares: ClassVar[bool] = False

    @property
    def grounded(self) -> bool:
        """Always."""
        return True

    def asked(self, case: Case) -> Seq[str]:
        """One prompt."""
        reply = after_prefix(case.replies[0].replace("\n", " "))
        references = listed(case.references)
        if len(case.references) > 1:
            references = f"\n{references}"
        return (
            _PROMPT.format(question=case.question, references=references, reply=reply),
        )  # fmt: skip

    def read(self, part: int, said: str, case: Case) -> Mapping[str, float] | None:
        """Both numbers."""
        found = last_object(said)
        fluency = whole_in(found, "fluency", 0, 1)
        correctness = whole_in(found, "correctness", 0, 3)
        if fluency is None or correctness is None:
            return None
        return {"fluency": float(fluency), "correctness": float(correctness)}

    def verdict(self, parts: Seq[Mapping[str, float]], case: Case) -> Mapping[str, float]:
        """Their product, and both."""
        return {"score": parts[0]["fluency"] * parts[0]["correctness"], **parts[0]}


__all__ = ["HELMET", "QA"]
