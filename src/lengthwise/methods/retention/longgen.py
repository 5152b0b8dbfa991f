"""LongGen: the middle layers see everything, those below and above first and latest tokens.

Ge et al., "A Little Goes a Long Way: Efficient Long Context Training and Inference with Partial
Contexts", ICLR 2025, arXiv:2410.01485.

Of L layers the middle third keeps every token. In the others, from the first token on,

    query i sees   j < sinks,  and i - window < j <= i,   all where they were born

So they store no more than `sinks` + `window` tokens. What is far away reaches them through the
middle layers.

The paper turns a model into this while it trains it on for longer texts, and finds that doing so
without training loses what is asked of afar. As a recipe nothing is trained; a run with the same
windows, `[retention]`, trains weights for it. The paper's other pattern, strided blocks, is left
out. Layers with a window of the model's own stay as they are, and are not
counted.

A third of the layers is the paper's. Its window was not to be had: 64 first tokens are one block of
such kernels, and 1,024 a choice of ours. `full` = 1 is full attention.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from lengthwise.engine.kv_cache.head_policy import HeadPolicy, HeadTable, sinks_and_recent
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.retention.counting import full_layers, needs_full_layers
from lengthwise.methods.shares import whole_and_rest

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class LongGen(Method):
    """The middle layers keep everything, the others `sinks` + `window` tokens."""

    name: ClassVar[str] = "longgen"
    question: ClassVar[Question] = Question.RETENTION
    paper: ClassVar[Paper] = Paper(
        "A Little Goes a Long Way: Efficient Long Context Training and Inference with Partial "
        "Contexts",
        "Ge et al.",
        2025,
        arxiv="2410.01485",
        venue="ICLR",
    )

    full: float = option(1 / 3, "share of layers, in the middle, that keep everything", 0.0, 1.0)
    sinks: int = option(64, "first tokens that the other layers keep", low=0)
    window: int = option(1024, "latest tokens that they keep", low=1)

    @classmethod
    def identity(cls, length: int) -> LongGen:
        return cls(full=1.0)

    @classmethod
    def example(cls) -> LongGen:
        return cls(sinks=2, window=8)

    def at_share(self, share: float, model: AdaptedModel, length: int) -> LongGen:
        # Layers with a window keep what they keep by default, or half of the share.
        layers = len(full_layers(model))
        usual = min(self.sinks + self.window, share * length / 2)
        whole, kept = whole_and_rest(layers, share, length, usual)
        sinks = min(self.sinks, kept // 5)
        return replace(self, full=whole / layers, sinks=sinks, window=max(1, kept - sinks))

    def check(self, model: AdaptedModel) -> None:
        needs_full_layers(self.name, model)

    def head_table(self, model: AdaptedModel) -> HeadTable:
        layers = [layer.index for layer in full_layers(model)]
        policy = HeadPolicy(placement=sinks_and_recent(self.sinks, self.window))
        middle = set(middle_of(layers, self.full))
        return {index: (policy,) for index in layers if index not in middle}


def middle_of(layers: list[int], share: float) -> list[int]:
    """The middle ones of some layers.

    Args:
        layers: their indices, in order.
        share: how many of them, rounded to a whole number.
    """
    count = round(len(layers) * share)
    first = (len(layers) - count) // 2
    return layers[first : first + count]


__all__ = ["LongGen", "middle_of"]
