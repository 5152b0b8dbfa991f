"""V2PE: marked spans advance the position by a fraction a token.

Ge et al., "V2PE: Improving Multimodal Long-Context Capability of Vision-Language Models with
Variable Visual Position Encoding", 2024, arXiv:2412.09616.

The paper's spans are tiles of images, 256 tokens each. Here they are the documents that are set
apart from the text around them, such as long material of which little matters word by word:

    text:       position + 1 a token
    span of m:  a + delta, a + 2 delta, ..., a + m delta     behind the position a
    then:       text goes on at ceil(a + m delta) + 1        so text stands at whole positions

Angles are made of the positions as they are, in float32. delta = 1 is the ordinary rule. The paper
writes delta = stride / 256 and trains with a stride drawn for each image from 1, 2, 4, .., 256. A
stride is then chosen for a length; the authors' examples take 64, which is our default 1/4.
Nothing is trained here, so what the model makes of fractions is what it makes of them untrained.

Positions are made as start + delta index, where theirs sums steps and may be one too long. Steps so
small that float32 makes them uneven are refused. So are models that change their frequencies with
the length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lengthwise.engine.kv_cache.contexts import FractionalSteps
from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Paper, Question, option

if TYPE_CHECKING:
    from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class V2PE(Method):
    """delta: by how much a token of a document advances the position."""

    name: ClassVar[str] = "v2pe"
    question: ClassVar[Question] = Question.POSITIONS
    paper: ClassVar[Paper] = Paper(
        "V2PE: Improving Multimodal Long-Context Capability of Vision-Language Models with "
        "Variable Visual Position Encoding",
        "Ge et al.",
        2024,
        arxiv="2412.09616",
        code="https://github.com/OpenGVLab/V2PE",
    )
    frozen_positions: ClassVar[bool] = True
    ordinary_only: ClassVar[bool] = True

    delta: float = option(0.25, "positions that a token of a document takes", low=1 / 256, high=1.0)

    @classmethod
    def identity(cls, length: int) -> V2PE:
        return cls(delta=1.0)

    def check(self, model: AdaptedModel) -> None:
        if model.rope is not None and model.rope.switch is not None:
            raise Refused(
                f"{self.name} keeps documents at the positions they were read at, and this "
                f"{model.family!r} model has other frequencies beyond {model.rope.switch:,} tokens",
                "give the documents in one text, under another recipe",
            )

    def contexts(self, model: AdaptedModel) -> FractionalSteps:
        return FractionalSteps(self.delta)


__all__ = ["V2PE"]
