"""Goodput: as many guesses as give most tokens a second on this machine, none included.

Liu et al., "Optimizing Speculative Decoding for Serving Large Language Models Using Goodput", 2024,
arXiv:2406.14066.

This policy runs where a recipe names no other. Naming it sets how careful it is. The rule, and
where ours differs, stands in the engine's module of draft lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lengthwise.engine.speculative import draft_length as policy
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class Goodput(Method):
    """The times of steps are learned apart for each margin."""

    name: ClassVar[str] = "goodput"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "Optimizing Speculative Decoding for Serving Large Language Models Using Goodput",
        "Liu et al.",
        2024,
        arxiv="2406.14066",
    )
    lossless: ClassVar[bool] = True
    margin: float = option(
        policy.MARGIN, "speed that drafting must promise, in plain steps' speed", low=1
    )

    @classmethod
    def identity(cls, length: int) -> Goodput:
        """No drafting can promise that."""
        return cls(margin=1e9)

    def start_policy(self, model: AdaptedModel) -> policy.Goodput:
        return policy.policy_for(model, self.margin)


__all__ = ["Goodput"]
