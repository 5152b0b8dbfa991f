"""Entropy-aware ABF: a larger rotary base, and logits that grow with the position.

Zhang, Li and Liu, "Extending LLMs' Context Window with 100 Samples", 2024, arXiv:2401.07004.

The more keys a query sees, the more evenly it attends. The logits of each query grow with its own
position, so that the entropy of its attention stays what it was at the trained length L0. Together
with the larger base of ABF, 100 long samples then suffice to adapt a model.

    f_i' = beta^(-2i / d),  beta = 500,000                       as in `abf`
    s(p) = max(1, ln(p + 1) / ln L0)                             query at position p = 0, 1, ...
    logit(p, j) = s(p) q_p . k_j / sqrt(d)                       but in the first two layers

A ratio of logarithms is the same to any base. L0 is the length the model was trained for before it
is extended, 4,096 in the authors' code. Of a model that was trained further since, it has to be
given. Queries alone carry the factor, so keys are cached as ever, and decoding equals a prefill.

The entropy of the first two layers is not steady in the original model either, and the paper
exempts them: `exempt` 2. In the released code the exemption has no effect, as the attribute that it
sets is read by nobody: `exempt` 0 is what that code computes. Layers with a window of the model's
own keep their logits. p counts tokens of the text, so moving all positions changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lengthwise.engine.kv_cache.query_scale import QueryScale
from lengthwise.methods.base import Paper, Question, option
from lengthwise.methods.positions.frequency import FrequencyMethod, needs_smaller_base, rebased
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.rope import RopeFacts


@dataclass(frozen=True)
class EntropyABF(FrequencyMethod):
    """base: beta; None keeps the model's. trained: L0. exempt: first layers without the factor."""

    name: ClassVar[str] = "entropy_abf"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[Paper] = Paper(
        "Extending LLMs' Context Window with 100 Samples",
        "Zhang, Li and Liu",
        2024,
        arxiv="2401.07004",
        code="https://github.com/GAIR-NLP/Entropy-ABF",
    )
    base: float | None = option(
        500_000.0, "rotary base in place of the model's (none: the model's)", low=2.0
    )
    trained: int | None = option(
        None, "tokens beyond which logits grow (none: the model's trained length)", low=2
    )
    exempt: int = option(2, "first layers whose logits stay as they are", low=0)

    @classmethod
    def identity(cls, length: int) -> EntropyABF:
        return cls(base=None, trained=max(2, length))

    @classmethod
    def example(cls) -> EntropyABF:
        return cls(trained=8, exempt=1)

    def check(self, model: AdaptedModel) -> None:
        super().check(model)
        needs_smaller_base(self, model, self.base)

    def changed(self, inv_freq: Tensor, facts: RopeFacts, length: int) -> tuple[Tensor, float]:
        return rebased(inv_freq, facts, self.base), 1.0

    def query_scale(self, model: AdaptedModel) -> QueryScale:
        return self.scale_beyond(model.trained_length)

    def scale_beyond(self, trained_length: int) -> QueryScale:
        """The factor on queries of a model that was trained to a length.

        Args:
            trained_length: L0 in tokens, where the recipe gives none.
        """
        whole = math.log(max(2, self.trained or trained_length))

        def factor(positions: Tensor) -> Tensor:
            return ((positions + 1).float().log() / whole).clamp_min(1.0)

        return QueryScale(factor, self.exempt, ("entropy", whole))


__all__ = ["EntropyABF"]
