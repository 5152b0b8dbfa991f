"""New rows out of a normal law with the mean and deviation of all old numbers: what any other way
has to beat. It is the last resort of TokenAdapt, too (arXiv 2505.09738)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lengthwise.tokenization.trainers.kind import Told
from lengthwise.tokenization.transplant.method import Donor, Transplant, setting


@dataclass(frozen=True)
class Random(Transplant):
    """Draws, one scalar mean and deviation a matrix."""

    name: ClassVar[str] = "random"

    seed: int = setting(0, "of what is drawn", low=0)

    def rows(self, donor: Donor, told: Told) -> tuple[Tensor, ...]:
        """Draws, see `Transplant.rows`."""
        return donor.drawn(len(donor.wanted), self.seed)


__all__ = ["Random"]
