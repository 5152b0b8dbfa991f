"""Fixed: the same number of guesses at every step, whatever it costs.

The rule of Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", 2023,
arXiv 2211.17192, whose K is a constant, for trees: the K nodes whose paths are likeliest to come
true. It knows nothing of the machine, and so is slower than plain decoding where K more tokens cost
a step more than they bring; and what it gives is the same on every machine, which makes it the
yardstick of the other policies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lengthwise.engine.speculative import draft_length as policy
from lengthwise.methods.base import Method, Question, option
from lengthwise.models.adapt import Adapted


@dataclass(frozen=True)
class Fixed(Method):
    """Guesses that were drawn are verified beyond `nodes` as well: see `Tree.draw`."""

    name: ClassVar[str] = "fixed"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[str] = "Speculative Decoding (2023), arXiv 2211.17192"
    lossless: ClassVar[bool] = True
    nodes: int = option(16, "guesses verified at every step, 0 for none", low=0, high=256)

    @classmethod
    def identity(cls, length: int) -> Fixed:
        return cls(nodes=0)

    def start_policy(self, model: Adapted) -> policy.Fixed:
        return policy.Fixed(self.nodes)


__all__ = ["Fixed"]
