"""Best-fit-decreasing packing: whole documents in rows that are nearly full.

Ding et al., "Fewer Truncations Improve Language Modeling", ICML 2024, arXiv:2404.10830.

A document longer than a row is cut into full rows and a rest. Nothing is dropped. Pieces are taken
from the longest down, each into the row whose free room is the least that will do. Attention stays
within pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lengthwise._utils.bins import best_fit_decreasing
from lengthwise._utils.counter_rng import Ints
from lengthwise._utils.papers import Paper
from lengthwise.methods.options import option
from lengthwise.sequences.builders.plain import LONGEST, Plain
from lengthwise.sequences.rows import Built, Documents, Rows
from lengthwise.sequences.token_store import ranges


@dataclass
class BestFit(Plain):
    """Rows of at most max_length tokens, no padding stored."""

    name: ClassVar[str] = "best-fit"
    paper: ClassVar[Paper] = Paper(
        "Fewer Truncations Improve Language Modeling",
        "Ding et al.",
        2024,
        arxiv="2404.10830",
        venue="ICML",
    )
    whole_documents: ClassVar[bool] = True
    document_mask: ClassVar[bool] = True

    max_length: int = option(8192, "tokens of a row at most", low=2, high=LONGEST)

    def build(self, documents: Documents, part: int) -> Built:
        starts, lengths = cut(documents, self.max_length)
        rows = packed(starts, lengths, self.max_length)
        longer = int((documents.lengths > self.max_length).sum())
        room = len(rows) * self.max_length
        return Built({0: rows}, figures={"documents_cut": longer,
                                         "padding": room - documents.tokens})  # fmt: skip


def cut(documents: Documents, max_length: int) -> tuple[Ints, Ints]:
    """Starts and lengths of the pieces of all documents, max_length tokens but for the last."""
    counts = -(-documents.lengths // max_length)
    number = ranges(np.zeros_like(counts), counts)
    starts = np.repeat(documents.starts, counts) + number * max_length
    ends = np.repeat(documents.starts + documents.lengths, counts)
    return starts, np.minimum(max_length, ends - starts)


def packed(starts: Ints, lengths: Ints, room: int) -> Rows:
    """Rows of at most `room` tokens holding every piece once."""
    order = np.argsort(-lengths, kind="stable")
    row = np.array(best_fit_decreasing(lengths[order].tolist(), room), np.int64)
    by_row = np.argsort(row, kind="stable")
    order = order[by_row]
    counts = np.bincount(row)
    return Rows(starts[order], lengths[order], np.append(0, np.cumsum(counts)))


def packed_units(
    starts: Ints, lengths: Ints, counts: Ints, room: int, counted: NDArray[np.bool_] | None = None
) -> Rows:
    """Rows of at most `room` tokens from units of counts[u] stretches, which stay together.

    counted: whether the tokens of a stretch are predicted; None where all are.
    """
    firsts = np.cumsum(counts) - counts
    sizes = np.add.reduceat(lengths, firsts)
    order = np.argsort(-sizes, kind="stable")
    row = np.array(best_fit_decreasing(sizes[order].tolist(), room), np.int64)
    by_row = np.argsort(row, kind="stable")
    order = order[by_row]
    taken = ranges(firsts[order], counts[order])
    opens = np.zeros(len(taken), bool)
    opens[np.cumsum(counts[order]) - counts[order]] = True
    units = np.append(0, np.cumsum(np.bincount(row)))
    ends = np.append(0, np.cumsum(counts[order]))[units]
    predicted = None if counted is None else counted[taken]
    return Rows(starts[taken], lengths[taken], ends, opens, predicted)
