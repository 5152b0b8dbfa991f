"""How much of the evidence is read, and how much else with it, in characters of the document.

Jadon and others, "Enhancing Domain-Specific Retrieval-Augmented Generation: Synthetic Data
Generation and Evaluation using Reasoning Models", 2025, arXiv:2502.15854. With R the characters of
the evidence and T the passages that are read:

    recall          |T and R| / |R|
    precision       |T and R| / sum |T|
    IoU             |T and R| / (sum |T| + |R without T|)
    precision-omega the precision of all passages that touch R, read once: the most that a chooser
                    among these passages can reach with all evidence read

The paper calls them token-wise, and its released code counts characters, as here. Passages that
overlap count twice in a sum and once where they meet R. Passages that only touch R's end do not
meet it here; the released code takes closed ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence as Seq
from dataclasses import dataclass

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SpanScores:
    """Shares from 0 to 1. omega: None where the passages to choose among are not known."""

    recall: float
    precision: float
    iou: float
    omega: float | None = None


def span_scores(evidence: Seq[Span], read: Seq[Span], passages: Seq[Span] = ()) -> SpanScores:
    """The four scores of what is read.

    Args:
        evidence: half-open runs of a document, at least one character in all.
        read: the runs of it that are read.
        passages: those that were there to choose from; none gives no omega.
    """
    wanted = union(evidence)
    size, total = _size(wanted), _size(read)
    met = _size(_meet(union(read), wanted))
    omega = None
    if passages:
        near = union(each for each in passages if _meet([each], wanted))
        covered = _size(_meet(near, wanted))
        least = _size(near) + size - covered
        omega = covered / least if least else 0.0
    return SpanScores(met / size, met / total if total else 0.0, met / (total + size - met), omega)


def union(spans: Iterable[Span]) -> list[Span]:
    """Runs in their order, those that overlap or touch as one, empty ones left out.

    Args:
        spans: half-open, in any order.
    """
    found: list[Span] = []
    for start, stop in sorted(spans):
        if start >= stop:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return found


def _meet(left: Seq[Span], right: Seq[Span]) -> list[Span]:
    """What two lists of runs, each apart and in order, have in common."""
    found: list[Span] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, stop = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < stop:
            found.append((start, stop))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return found


def _size(spans: Iterable[Span]) -> int:
    return sum(stop - start for start, stop in spans)


__all__ = ["Span", "SpanScores", "span_scores", "union"]
