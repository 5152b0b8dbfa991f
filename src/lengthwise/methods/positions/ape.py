"""APE: documents read apart, once each, and answered together.

Yang, Chen and Chen, "APE: Faster and Longer Context-Augmented Generation via Adaptive Parallel
Encoding", ICLR 2025, arXiv:2502.05431.

Each document is read behind the same prefix of P tokens, and sees no other: all of them stand at
the positions P, P + 1, ... . What follows stands behind the longest. So a document is read once for
all questions and all companions, and their order is nothing. Attention to keys that do not know of
each other is too even, and their sum too large. A query therefore has two softmaxes, over the
documents' keys c and over all others o, joined by their log-sum-exp (LSE):

    o_c, lse_c = softmax(q K_c / (sqrt(d) T)) V_c          one over all documents
    o_o, lse_o = softmax(q K_o / sqrt(d)) V_o              prefix, question, answer; causal
    out        = softmax([S T lse_c, lse_o]) [o_c, o_o]

T below 1 sharpens, S below 1 takes weight from the documents; 1 and 1 is plain parallel encoding,
and with one document reading it in order. An LSE is not the same after a constant is added to all
logits, so it is that of the logits as they are.

Defaults are those of the authors' demonstration. Theirs rounds both LSEs to the dtype of the model
before they are joined; here they stay float32. Their file for Gemma 2 gives T and S to the keys
that are no documents; here as in the paper, and for Llama and Mistral. Refused are models with
windows of their own and models that change their frequencies with the length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.engine.kv_cache.contexts import ContextWeights
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.positions.whole_view import needs_whole_view

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class Ape(Method):
    """temperature: T. scale: S."""

    name: ClassVar[str] = "ape"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[Paper] = Paper(
        "APE: Faster and Longer Context-Augmented Generation via Adaptive Parallel Encoding",
        "Yang, Chen and Chen",
        2025,
        arxiv="2502.05431",
        venue="ICLR",
        code="https://github.com/Infini-AI-Lab/APE",
    )
    best_known: ClassVar[str] = "ape(temperature=0.8, scale=1.0)"
    frozen_positions: ClassVar[bool] = True
    ordinary_only: ClassVar[bool] = True

    temperature: float = option(
        0.9, "what logits of the documents are divided by; below 1 sharpens", low=0.01, high=10.0
    )
    scale: float = option(
        0.9, "what their log-sum-exp is multiplied by, beside the temperature", low=0.0, high=10.0
    )

    @classmethod
    def identity(cls, length: int) -> Ape:
        return cls(temperature=1.0, scale=1.0)

    def check(self, model: AdaptedModel) -> None:
        needs_whole_view(self, model)

    def contexts(self, model: AdaptedModel) -> ContextWeights:
        return ContextWeights(self.temperature, self.scale)


__all__ = ["Ape"]
