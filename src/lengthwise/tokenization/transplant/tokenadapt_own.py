"""TokenAdapt without an encoder, ours: the model's own input embeddings say what is alike.

A variant of `tokenadapt` (arXiv 2505.09738) for whoever has no sentence encoder; the paper has none
of it. `ext` of an old token is its input embedding, less the mean of all of them, and `ext` of a
new token s is the mean over its pieces. The pieces of s are no neighbours of it: they are the local
part.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise._utils.papers import Paper
from lengthwise.tokenization.trainers.kind import Told
from lengthwise.tokenization.transplant.method import Donor
from lengthwise.tokenization.transplant.tokenadapt import Heuristics, TokenAdapt


@dataclass(frozen=True)
class TokenAdaptOwn(Heuristics):
    """Similarities of the model's own input embeddings."""

    name: ClassVar[str] = "tokenadapt_own"
    paper: ClassVar[Paper] = TokenAdapt.paper

    def barred(self, donor: Donor, number: int) -> Seq[int]:
        """Its pieces, see `Heuristics.barred`."""
        return donor.pieces[number]

    def vectors(self, donor: Donor, told: Told) -> tuple[Tensor, Tensor]:
        """Embeddings and means of them, see `Heuristics.vectors`."""
        meant = torch.zeros(len(donor.matrices[0]), dtype=torch.bool)
        meant[[n for n, each in enumerate(donor.spelled) if each and n < len(meant)]] = True
        rows = donor.matrices[0] - donor.matrices[0][meant].mean(0)
        rows[~meant] = 0
        new = torch.zeros(len(donor.wanted), rows.shape[1])
        for number, pieces in enumerate(donor.pieces):
            if pieces:
                new[number] = rows[list(pieces)].mean(0)
        return F.normalize(rows, dim=1), F.normalize(new, dim=1)


__all__ = ["TokenAdaptOwn"]
