"""Diverse beam search: groups of beams, each held away from what the others choose.

Vijayakumar et al., "Diverse Beam Search: Decoding Diverse Solutions from Neural Sequence Models",
AAAI 2018, arXiv:1610.02424.

    score(y v) = score(y) + log p(v | x, y) - diversity_penalty * n(v)

n(v) counts how often the groups before this one chose v at this step (Hamming diversity). A group
keeps its best `width / groups`. transformers calls these `num_beams`, `num_beam_groups` and
`diversity_penalty`.

The penalty is part of the score by which a search keeps its beams, as the paper's objective has it.
Texts that have ended are ranked by their log-probability alone, in all groups together.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.decoding._shared.beams import EARLY, BeamGroup, BeamSearch, by_length
from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class DiverseBeamSearch(Method):
    """width: texts that go on together, in all groups. groups: how many; 0 is one a text.
    diversity_penalty: nats that a token loses for each group that has chosen it."""

    name: ClassVar[str] = "dbs"
    question: ClassVar[Question] = Question.DECODING
    paper: ClassVar[Paper] = Paper(
        "Diverse Beam Search: Decoding Diverse Solutions from Neural Sequence Models",
        "Vijayakumar et al.", 2018, arxiv="1610.02424", venue="AAAI",
        code="https://github.com/ashwinkalyan/dbs",
    )  # fmt: skip
    width: int = option(6, "texts that go on together", low=1, high=64)
    groups: int = option(0, "groups of them, 0 for one a text", low=0, high=64)
    diversity_penalty: float = option(0.5, "nats for a token that a group has chosen", low=0.0)
    length_penalty: float = option(1.0, "exponent of the length")
    early_stopping: str = option("false", "when a search ends", choices=tuple(EARLY))

    @classmethod
    def identity(cls, length: int) -> DiverseBeamSearch:
        """Greedy decoding."""
        return cls(width=1)

    def check(self, model: AdaptedModel) -> None:
        """Refuses groups that cannot be equally large."""
        if self.groups and self.width % self.groups:
            raise Refused(
                f"{self.name}: {self.width} texts make no {self.groups} groups of one size",
                f"give a width that {self.groups} divides, or groups=0",
            )

    def start_mode(self, model: AdaptedModel) -> BeamSearch:
        count = self.groups or self.width

        def groups(limit: int) -> list[BeamGroup]:
            early, rank = EARLY[self.early_stopping], by_length(self.length_penalty)
            return [BeamGroup(self.width // count, rank, early, limit) for _ in range(count)]

        return BeamSearch(self.name, groups, self._steer)

    def _steer(self, group: BeamGroup, scores: Tensor, chosen: Seq[int]) -> Tensor:
        for token in chosen:
            scores[:, token] -= self.diversity_penalty
        return scores


__all__ = ["DiverseBeamSearch"]
