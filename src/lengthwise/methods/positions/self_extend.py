"""SelfExtend: far tokens share positions in groups.

Jin et al., "LLM Maybe LongLM: Self-Extend LLM Context Window Without Tuning", ICML 2024,
arXiv:2401.01325.

A model need not know exactly how far a far token is. Positions of far keys are divided by a group
size and rounded down, so that every distance stays within what was trained. Near keys keep their
own positions.

    i - j <  W:  query at i,                          key at j
    i - j >= W:  query at floor(i / G) + W - floor(W / G),  key at floor(j / G)

Both kinds meet in one softmax. The largest distance stays below the trained length L0 while the
text is shorter than about (L0 - W) G + W. Floors are of each index, as in the authors' code. So the
distance at the border of the window may be one more than W, never less. Each key is cached once: it
is moved from its own position to its group's when it leaves the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.methods.base import Method, Paper, Question, needs_rope, option
from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class SelfExtend(Method):
    """group: G, far tokens per position. window: W, distances below it are kept exactly."""

    name: ClassVar[str] = "self_extend"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[Paper] = Paper(
        "LLM Maybe LongLM: Self-Extend LLM Context Window Without Tuning",
        "Jin et al.",
        2024,
        arxiv="2401.01325",
        venue="ICML",
        code="https://github.com/datamllab/LongLM",
    )
    group: int = option(4, "far tokens that share a position", low=1)
    window: int = option(1024, "tokens that keep their own positions", low=1)

    @classmethod
    def identity(cls, length: int) -> SelfExtend:
        return cls(window=max(1, length))

    def check(self, model: AdaptedModel) -> None:
        needs_rope(self, model)

    def placement(self, model: AdaptedModel) -> Placement:
        group, shift = self.group, self.window - self.window // self.group

        def far_key(index: Tensor) -> Tensor:
            return index // group

        def far_query(index: Tensor) -> Tensor:
            return index // group + shift

        return Placement(window=self.window, far_key=far_key, far_query=far_query)
