"""Extensible Tokenization: an encoder's every k-th state stands for k tokens, k chosen at reading.

Shao et al., "Flexibly Scaling Large Language Models Contexts Through Extensible Tokenization",
2024, arXiv:2401.07793. The first layers of a model, trained as a copy, read a chunk of text; of
their states every k-th one is an extensible embedding, and the model, frozen, reads those in place
of the tokens' embeddings.

    chunk of L tokens -> states h_1 .. h_L of the first 8 layers, causal, L = 4096
    soft   = h_k, h_2k, ..., h_L        (the last of every k, and the last of a shorter rest)
    prompt = [soft of the past, tokens that are not compressed], in ordinary positions

Training: k is drawn for each sample of `ratios`. A text is cut into pieces (512); a piece is
predicted from the extensible embeddings of all pieces before it and from its own tokens (two-stream
autoregression). Rate 5e-5, batch 8.

Online: when what is read reaches the model's window, the oldest raw part is compressed. That is
`compress_raw` of a session here (`api/soft_context.py`).

Ours: of each drawn text one piece is predicted, drawn too, where the paper predicts all in one
forward; the mean is the same. The model's last norm and a scale and a shift a channel stand behind
the copied layers (`layers.py: Matched`), so that training begins at the size of embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise._utils.papers import Paper
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.methods.options import option
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.soft_contexts.base import Encoder, Example, SoftContext, Texts
from lengthwise.soft_contexts.layers import (
    FirstLayers,
    Matched,
    behind_first,
    compared,
    narrow,
    padded,
)

PIECES = "pieces"


@dataclass(frozen=True)
class Extensible(SoftContext):
    """An embedding for every k tokens of a context, k chosen when it is read."""

    name: ClassVar[str] = "extensible"
    paper: ClassVar[Paper] = Paper(
        "Flexibly Scaling Large Language Models Contexts Through Extensible Tokenization",
        "Shao et al.",
        2024,
        arxiv="2401.07793",
    )
    stages: ClassVar[tuple[str, ...]] = (PIECES,)
    rate: ClassVar[float] = 5e-5

    layers: int = option(8, "of the model, copied", low=0)
    chunk: int = option(4096, "tokens encoded together", low=1)
    ratios: str = option("2,4,8,16,32", "tokens an embedding that are trained, with commas")
    piece: int = option(512, "tokens of a piece, in training", low=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.trained_ratios()

    def trained_ratios(self) -> list[int]:
        """The values of k that are drawn in training."""
        try:
            found = sorted({int(each) for each in self.ratios.split(",")})
        except ValueError:
            found = []
        if not found or found[0] < 1:
            raise RecipeError(
                f'{self.name}: ratios={self.ratios}: give whole numbers from 1 on, as in "2,4,8"'
            )
        return found

    def start(self, model: AdaptedModel) -> ExtensibleEncoder:
        return ExtensibleEncoder(model, self)

    def example(self, stage: str, texts: Texts, chance: Random) -> Example:
        whole = texts.length // self.piece
        if whole < 2:
            raise LengthwiseError(
                f"length={texts.length}: a text has at least two pieces of {self.piece} tokens; "
                "give a larger length, or smaller pieces"
            )
        before = chance.randrange(1, whole)
        text = texts.draw((before + 1) * self.piece, chance)
        past = before * self.piece
        ratio = chance.choice(self.trained_ratios())
        return Example(text[:past], text[past:], ratio=ratio)


class ExtensibleEncoder(Encoder):
    """See `Extensible`."""

    def __init__(self, model: AdaptedModel, how: Extensible) -> None:
        super().__init__(model, min(how.chunk, model.trained_length))
        self.how = how
        some = model.embed(compared(model)).float()
        self.layers = FirstLayers(model, how.layers).to(model.device)
        self.matched = Matched(some.shape[-1]).to(model.device)
        if how.layers:
            with torch.no_grad(), narrow(model, self):
                states = self.layers(some[None])[0]
            self.matched.match(behind_first(states), some)

    def checked(self, ratio: int | None) -> int:
        if ratio is None:
            return self.how.trained_ratios()[0]
        if isinstance(ratio, bool) or not isinstance(ratio, int) or ratio < 1:
            raise LengthwiseError(
                f"ratio={ratio}: give how many tokens an embedding stands for, from 1 on; trained "
                f"were {self.how.ratios}"
            )
        return ratio

    def places(self, tokens: int, ratio: int | None = None) -> list[int]:
        step = self.checked(ratio)
        return [*range(step - 1, tokens, step), *([tokens - 1] if tokens % step else [])]

    def forward(self, contexts: Seq[Seq[int]], ratio: int | None = None) -> list[Tensor]:
        device = self.model.device
        rows = [self.model.embed(torch.tensor(ids, device=device)).float() for ids in contexts]
        with narrow(self.model, self):
            states = self.layers(padded(rows))
        return [
            self.matched(each[self.places(len(ids), ratio)])
            for each, ids in zip(states, contexts, strict=True)
        ]


__all__ = ["PIECES", "Extensible", "ExtensibleEncoder"]
