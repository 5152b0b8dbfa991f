"""A summary against a reference: HELMET's judge of key points and sentences.

Yen et al., "HELMET: How to Evaluate Long-Context Language Models Effectively and Thoroughly", ICLR
2025, arXiv:2410.02694. Three questions, each with JSON for an answer:

    fluency    0 or 1, of the summary alone
    recall     key points of the reference that the summary supports / all of them
    precision  sentences of the summary that the reference supports / its sentences

The score is fluency times F1 of recall and precision, from 0 to 1.

Ours differs: key points are published beside HELMET's data and a run has none, so that the
sentences of the references stand for them. Words are ours, without the worked examples. Numbers
that cannot be (more points than there are) cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise._utils.papers import Paper
from lengthwise.evaluation.judges.answers import last_object, whole_in
from lengthwise.evaluation.judges.judge import Case, listed
from lengthwise.evaluation.judges.qa import HELMET
from lengthwise.evaluation.scorers.aggregates import judged_f1

_MOST_SENTENCES = 10_000
_FLUENCY = """\
You are an impartial judge of how fluent a text is.
- 0: incoherent, repetitive, broken off or gibberish. A coherent text that repeats itself or is \
incomplete is 0, too.
- 1: coherent, fluent and grammatical, without repetition. A last sentence that is cut off does no \
harm.

Text: {summary}

Give the number as JSON with the field "fluency"."""
_RECALL = """\
You are an impartial judge of a summary. It should hold the key points of a summary that an expert \
wrote, which are listed. A key point counts if the facts of it are supported by the summary.

Key points:
{points}

Summary: <start>{summary}<end>

Think step by step and explain your judgement first. Then reply with JSON: "supported_key_points" \
is the list of the numbers of the points that count, "recall" is how many they are."""
_PRECISION = """\
You are an impartial judge of a summary. A sentence of it counts if its main facts agree with an \
expert's summary. It still counts if lesser details, such as dates or names, are not there. It \
does not count if its main facts are missing there or contradicted.

Expert's summary: <start>{reference}<end>

Summary: <start>{summary}<end>

Think step by step and explain your judgement first. Then reply with JSON: "precision" is how many \
sentences of the summary count, "sentence_count" is how many it has."""


@dataclass(frozen=True)
class Summary:
    """HELMET's judge of summaries. The score is fluency times F1."""

    name: ClassVar[str] = "summary"
    paper: ClassVar[Paper] = HELMET
    scale: ClassVar[tuple[float, float]] = (0.0, 1.0)
    most: ClassVar[int] = 4096
    compares: ClassVar[bool] = False

    @property
    def grounded(self) -> bool:
        """Always."""
        return True

    def asked(self, case: Case) -> Seq[str]:
        """Fluency, recall, precision."""
        summary = case.replies[0].strip()
        points = "\n".join(f"{n}. {each}" for n, each in enumerate(key_points(case.references), 1))
        return (
            _FLUENCY.format(summary=summary), _RECALL.format(points=points, summary=summary),
            _PRECISION.format(reference=listed(case.references), summary=summary),
        )  # fmt: skip

    def read(self, part: int, said: str, case: Case) -> Mapping[str, float] | None:
        """Fluency, a share of the key points, or a share of the sentences."""
        found = last_object(said)
        if part == 0:
            fluency = whole_in(found, "fluency", 0, 1)
            return None if fluency is None else {"fluency": float(fluency)}
        if part == 1:
            points = len(key_points(case.references))
            right = whole_in(found, "recall", 0, points)
            return None if right is None else {"recall": right / points}
        sentences = whole_in(found, "sentence_count", 1, _MOST_SENTENCES)
        right = None if sentences is None else whole_in(found, "precision", 0, sentences)
        if sentences is None or right is None:
            return None
        return {"precision": right / sentences}

    def verdict(self, parts: Seq[Mapping[str, float]], case: Case) -> Mapping[str, float]:
        """F1 times fluency, and the three."""
        read = {name: value for part in parts for name, value in part.items()}
        score = judged_f1(read["recall"], read["precision"], read["fluency"])
        return {"f1": score, **read}


def key_points(references: Seq[str]) -> list[str]:
    """The sentences of references, which stand for key points; at least one.

    Args:
        references: at least one.
    """
    text = " ".join(" ".join(each.split()) for each in references)
    return [each for each in re.split(r"(?<=[.!?。！？])\s+", text) if each] or [text]


__all__ = ["Summary", "key_points"]
