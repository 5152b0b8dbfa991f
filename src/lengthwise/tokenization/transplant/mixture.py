"""New rows as weighed sums of old ones: the same weights for all matrices of a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence as Seq
from typing import TypeAlias

import torch
from torch import Tensor

from lengthwise.tokenization.trainers.kind import Told
from lengthwise.tokenization.transplant.method import Donor, Transplant

Weights: TypeAlias = Mapping[int, float]
"""Of old tokens; they sum to 1, or there are none."""
_BLOCK = 4096


class Mixing(Transplant):
    """Says how much of which old token a new one is; one that is none of any is drawn at random."""

    @abstractmethod
    def weights(self, donor: Donor, told: Told) -> Seq[Weights]:
        """Of each wanted token.

        Args:
            donor: the old rows, and what is wanted.
            told: called with progress.
        """

    def rows(self, donor: Donor, told: Told) -> tuple[Tensor, ...]:
        """The weighed sums, see `Transplant.rows`."""
        return mixed(donor, self.weights(donor, told))


def mixed(donor: Donor, weights: Seq[Weights]) -> tuple[Tensor, ...]:
    """The rows that weights give.

    Args:
        donor: the old rows, and what is wanted.
        weights: of each wanted token; none has it drawn at random.

    Returns:
        Of each matrix float32 `[wanted, width]`.
    """
    count = len(weights)
    owners = [number for number, each in enumerate(weights) for _ in each]
    tokens = [token for each in weights for token in each]
    shares = [share for each in weights for share in each.values()]
    empty = torch.tensor([not each for each in weights], dtype=torch.bool)
    drawn = donor.drawn(count, seed=0)
    found = []
    for matrix, chance in zip(donor.matrices, drawn, strict=True):
        rows = torch.zeros(count, matrix.shape[1])
        # In blocks: the rows that are summed are many times as many as the sums.
        for first in range(0, len(tokens), _BLOCK):
            stop = first + _BLOCK
            taken = matrix[torch.tensor(tokens[first:stop])]
            weighed = taken * torch.tensor(shares[first:stop]).unsqueeze(1)
            rows.index_add_(0, torch.tensor(owners[first:stop]), weighed)
        rows[empty] = chance[empty]
        found.append(rows)
    return tuple(found)


__all__ = ["Mixing", "Weights", "mixed"]
