"""The fields of a row that a known answer and known evidence give."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import Any

from lengthwise.evaluation.metrics.spans import Span, span_scores
from lengthwise.evaluation.scorers.matching import squad_em, squad_f1
from lengthwise.methods.prompts import Passage


def answer_fields(said: str, answers: Seq[str]) -> dict[str, Any]:
    """Exact match and token F1.

    Args:
        said: the answer.
        answers: right ones; none gives no fields.
    """
    if not answers:
        return {}
    return {"exact_match": squad_em(said, answers), "token_f1": squad_f1(said, answers)}


def evidence_fields(
    evidence: Seq[Span], read: Seq[Passage], choices: Seq[Passage] = ()
) -> dict[str, Any]:
    """How much of the evidence is among what is read of one document.

    Args:
        evidence: half-open runs of its characters; none gives no fields.
        read: what is read; of it, what a model wrote is no part of a document.
        choices: the passages that there were to choose from.
    """
    if not evidence:
        return {}
    found = span_scores(evidence, _spans(read), _spans(choices))
    return {
        "evidence_recall": found.recall, "evidence_precision": found.precision,
        "evidence_iou": found.iou, "evidence_omega": found.omega,
    }  # fmt: skip


def _spans(passages: Seq[Passage]) -> list[Span]:
    return [(each.start, each.stop) for each in passages if each.document is not None]


__all__ = ["answer_fields", "evidence_fields"]
