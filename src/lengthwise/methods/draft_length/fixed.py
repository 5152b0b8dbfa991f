"""Fixed: the same number of guesses at every step, whatever it costs.

Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023,
arXiv:2211.17192.

The paper's K is a constant. Here the rule is used for trees: the K nodes whose paths are likeliest
to come true. It knows nothing of the machine. So it is slower than plain decoding where K more
tokens cost a step more than they bring. What it gives is the same on every machine, so the other
policies are compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lengthwise.engine.speculative import draft_length as policy
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class Fixed(Method):
    """Guesses that were drawn are verified beyond `nodes` as well: see `Tree.draw`."""

    name: ClassVar[str] = "fixed"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "Fast Inference from Transformers via Speculative Decoding",
        "Leviathan et al.",
        2023,
        arxiv="2211.17192",
        venue="ICML",
    )
    lossless: ClassVar[bool] = True
    nodes: int = option(16, "guesses verified at every step, 0 for none", low=0, high=256)

    @classmethod
    def identity(cls, length: int) -> Fixed:
        return cls(nodes=0)

    def start_policy(self, model: AdaptedModel) -> policy.Fixed:
        return policy.Fixed(self.nodes)


__all__ = ["Fixed"]
