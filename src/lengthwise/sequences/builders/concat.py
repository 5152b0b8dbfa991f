"""Concat-and-chunk, the baseline: all documents one after another, cut every max_length tokens.

`concat` attends across documents; `concat-masked` is the same rows with the places where documents
meet written down, so that attention can stop there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lengthwise.methods.options import option
from lengthwise.sequences.builders.plain import LONGEST, Plain
from lengthwise.sequences.rows import Built, Documents, Rows

TAIL = "last tokens of the corpus, too few for a row"


@dataclass
class Concat(Plain):
    """Rows of exactly max_length tokens."""

    name: ClassVar[str] = "concat"
    paper: ClassVar[None] = None
    whole_documents: ClassVar[bool] = False
    document_mask: ClassVar[bool] = False

    max_length: int = option(8192, "tokens of a row", low=2, high=LONGEST)

    def build(self, documents: Documents, part: int) -> Built:
        ends = np.cumsum(documents.lengths)
        total = int(ends[-1])
        count = total // self.max_length
        borders = np.arange(0, count + 1) * self.max_length
        cuts = np.union1d(borders, ends[ends < borders[-1]])
        firsts, lengths = cuts[:-1], np.diff(cuts)
        owner = np.searchsorted(ends, firsts, side="right")
        starts = documents.starts[owner] + firsts - (ends - documents.lengths)[owner]
        row_ends = np.searchsorted(cuts, borders)
        opens = None
        if not self.document_mask:
            opens = np.zeros(len(starts), bool)
            opens[row_ends[:-1]] = True
        left = total - count * self.max_length
        return Built({0: Rows(starts, lengths, row_ends, opens)}, {TAIL: left} if left else {})


@dataclass
class ConcatMasked(Concat):
    """The same rows, attention within documents."""

    name: ClassVar[str] = "concat-masked"
    document_mask: ClassVar[bool] = True
