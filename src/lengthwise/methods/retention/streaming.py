"""StreamingLLM: attention sinks and a recent window.

Xiao et al., "Efficient Streaming Language Models with Attention Sinks", ICLR 2024,
arXiv:2309.17453.

Models put much attention on their first tokens, whatever these say. A model whose window drops them
writes nonsense. One that keeps a few of them writes well for any length. Positions are counted
inside the cache, so they never exceed its size.

    cache of query i:  sinks j < s0, then the last w tokens, itself included
    positions:         rank in the cache, 0 .. s0 + w - 1

Within the window, ranks differ by as much as indices do. So recent keys keep their own positions
and are cached rotated. A sink stands at j and is reached from min(i, s0 + w - 1). These are the
same logits, without rotating the cache again at every step. Every query has a window of its own, so
text read in chunks gives what one token at a time gives. (The authors' chunks do not.)

Defaults are 4 + 1,020 of the paper's first table. (Its released code streams with 4 + 2,000.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from lengthwise.engine.kv_cache.placement import Placement
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class Streaming(Method):
    """sinks: s0. window: w; the cache holds s0 + w tokens."""

    name: ClassVar[str] = "streaming"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[Paper] = Paper(
        "Efficient Streaming Language Models with Attention Sinks",
        "Xiao et al.",
        2024,
        arxiv="2309.17453",
        venue="ICLR",
        code="https://github.com/mit-han-lab/streaming-llm",
    )
    sinks: int = option(4, "first tokens that are kept", low=0)
    window: int = option(1020, "most recent tokens that are kept", low=1)

    @classmethod
    def identity(cls, length: int) -> Streaming:
        return cls(window=max(1, length))

    def at_share(self, share: float, model: AdaptedModel, length: int) -> Streaming:
        return replace(self, window=max(1, round(share * length) - self.sinks))

    def placement(self, model: AdaptedModel) -> Placement:
        sinks, last = self.sinks, self.sinks + self.window - 1

        def first(index: Tensor) -> Tensor:
            return index < sinks

        def far_query(index: Tensor) -> Tensor:
            return index.clamp_max(last)

        return Placement(
            window=self.window, keeps_far=sinks > 0, keep_far=first, far_query=far_query
        )
