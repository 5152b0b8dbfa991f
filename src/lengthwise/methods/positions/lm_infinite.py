"""LM-Infinite: the first tokens and a local window, at distances that stop growing.

Han, Wang, Peng, Xiong, Chen, Ji and Wang, "LM-Infinite: Zero-Shot Extreme Length Generalization for
Large Language Models", 2023, arXiv 2308.16137. Long texts fail because of distances never seen, of
too many tokens in one softmax, and of the loss of the first tokens, which carry much of the
attention. A mask shaped like a Lambda and a cap on distances mend all three, without tuning.

    i - j <  W:            logit R(i) q . R(j) k
    i - j >= W,  j < G:    logit R(min(i, Lmax)) q . k          the key not rotated at all
    otherwise:             not seen

One softmax over both parts. Only G + W tokens are kept: memory and time per token are constant.
Ours differs from the authors' code in the cap: there all queries of a call share min(Lmax, n - 1),
here each query has its own, so that text may be read in pieces of any size. The optional
re-admission of middle tokens is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.placement import Placement
from lengthwise.methods.base import Method, Question, needs_rope, option
from lengthwise.models.adapt import Adapted


@dataclass(frozen=True)
class LMInfinite(Method):
    """sinks: G. window: W, wisely at most the trained length. cap: Lmax, None for the trained
    length."""

    name: ClassVar[str] = "lm_infinite"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[str] = (
        "LM-Infinite: Zero-Shot Extreme Length Generalization for Large Language Models (2023)"
    )
    sinks: int = option(10, "first tokens that are always seen", low=0)
    window: int = option(2048, "most recent tokens that are seen", low=1)
    cap: int | None = option(
        None, "largest distance to the first tokens (none: trained length)", low=1
    )

    @classmethod
    def identity(cls, length: int) -> LMInfinite:
        return cls(window=max(1, length))

    def check(self, model: Adapted) -> None:
        needs_rope(self, model)

    def placement(self, model: Adapted) -> Placement:
        sinks, cap = self.sinks, self.cap or model.trained_length

        def first(index: Tensor) -> Tensor:
            return index < sinks

        def far_query(index: Tensor) -> Tensor:
            return index.clamp_max(cap)

        return Placement(
            window=self.window,
            keeps_far=sinks > 0,
            keep_far=first,
            far_key=torch.zeros_like,
            far_query=far_query,
        )
