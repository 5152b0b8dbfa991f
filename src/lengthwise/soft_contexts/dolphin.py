"""Dolphin: a small model reads the context and hands the large one a few memory tokens.

Chen et al., "Dolphin: Long Context as a New Modality for Energy-Efficient On-Device Language
Models", 2024, arXiv:2408.15518. The context is a modality of its own, as an image is: an encoder
reads it, a projector brings what it found into the space of the decoder's embeddings.

    h      = encoder([embeddings of the context, M memory tokens])
    soft   = projector(h at the M memory tokens),    M = 32
    prompt = [soft, question], read as any prompt is

1. Restore: the decoder learns to say the context behind the soft tokens, or rather the encoder
   does, for the decoder is frozen here.
2. Continue: it says what comes after the context.
3. Instruct: it answers questions about the context. Needs pairs.

The projector is a linear layer, or two with GELU. The loss of all stages is that of the tokens
behind the soft ones.

Ours: the encoder is a trained copy of the model's own first layers (`layers`, all of them by
default), because a second model of the same tokenizer is rarely at hand; the paper's is Qwen2-0.5B
before Qwen2-7B. A linear projector begins as the identity, and both kinds end in a scale and a
shift a channel (`layers.py: Matched`). The decoder stays frozen in all stages, so that its other
sessions stay what they are. A context longer than `chunk` is encoded chunk by chunk, M tokens each;
without one M tokens stand for all that the encoder can read. The rate is ours.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import torch
from torch import Tensor, nn

from lengthwise._utils.papers import Paper
from lengthwise.errors import LengthwiseError
from lengthwise.methods.options import option
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.soft_contexts.base import Encoder, Example, SoftContext, Texts
from lengthwise.soft_contexts.layers import (
    FirstLayers,
    Matched,
    compared,
    narrow,
    padded,
)

RESTORE, CONTINUE, INSTRUCT = "restore", "continue", "instruct"


@dataclass(frozen=True)
class Dolphin(SoftContext):
    """A fixed number of memory tokens for a context, however long."""

    name: ClassVar[str] = "dolphin"
    paper: ClassVar[Paper] = Paper(
        "Dolphin: Long Context as a New Modality for Energy-Efficient On-Device Language Models",
        "Chen et al.",
        2024,
        arxiv="2408.15518",
    )
    stages: ClassVar[tuple[str, ...]] = (RESTORE, CONTINUE, INSTRUCT)
    asked_stages: ClassVar[tuple[str, ...]] = (INSTRUCT,)
    rate: ClassVar[float] = 1e-4

    tokens: int = option(32, "memory tokens a chunk", low=1)
    layers: int | None = option(None, "of the model, copied; none is all", low=0)
    projector: str = option("linear", "from states to embeddings", choices=("linear", "mlp"))
    chunk: int | None = option(None, "tokens encoded together; none is all that fit", low=1)

    def start(self, model: AdaptedModel) -> DolphinEncoder:
        return DolphinEncoder(model, self)

    def example(self, stage: str, texts: Texts, chance: Random) -> Example:
        if stage == INSTRUCT:
            if not texts.pairs:
                raise LengthwiseError(
                    f"stage {INSTRUCT} learns from questions: give pairs, or leave the stage out"
                )
            return chance.choice(texts.pairs)
        if stage == RESTORE:
            context = texts.draw(texts.length, chance)
            return Example(context, context)
        text = texts.draw(2 * texts.length, chance)
        return Example(text[: texts.length], text[texts.length :])


class DolphinEncoder(Encoder):
    """See `Dolphin`. memory: embeddings of the memory tokens, `[tokens, hidden]`."""

    def __init__(self, model: AdaptedModel, how: Dolphin) -> None:
        room = model.trained_length - how.tokens
        if room < 1 or (how.chunk or 1) > room:
            raise LengthwiseError(
                f"{how}: {how.tokens} memory tokens behind {how.chunk or 1} of a text are more "
                f"than the {model.trained_length:,} tokens that {model.family} reads; give fewer"
            )
        super().__init__(model, how.chunk or room)
        self.how = how
        ids = compared(model)[:room]
        some = model.embed(ids).float()
        hidden = some.shape[-1]
        self.layers = FirstLayers(model, how.layers).to(model.device)
        chance = torch.Generator().manual_seed(0)
        noise = torch.randn(how.tokens, hidden, generator=chance).to(some.device)
        self.memory = nn.Parameter(some.mean(0) + noise * some.std(0))
        self.projector = _projector(how.projector, hidden).to(model.device)
        self.matched = Matched(hidden).to(model.device)
        if self.layers.count or how.projector != "linear":
            with torch.no_grad():
                states = self._states([ids.tolist()])[0]
                self.matched.match(self.projector(states.float()), some)

    def places(self, tokens: int, ratio: int | None = None) -> list[int]:
        count = self.how.tokens
        return [max(0, (at + 1) * tokens // count - 1) for at in range(count)]

    def forward(self, contexts: Seq[Seq[int]], ratio: int | None = None) -> list[Tensor]:
        dtype = next(self.projector.parameters()).dtype
        return [self.matched(self.projector(each.to(dtype))) for each in self._states(contexts)]

    def _states(self, contexts: Seq[Seq[int]]) -> list[Tensor]:
        """States `[tokens, hidden]` at the memory tokens, which stand behind each context."""
        rows = []
        for ids in contexts:
            own = self.model.embed(torch.tensor(ids, device=self.model.device))
            rows.append(torch.cat([own.float(), self.memory.float()]))
        with narrow(self.model, self):
            states = self.layers(padded(rows))
        count = self.how.tokens
        return [
            each[len(ids) : len(ids) + count] for each, ids in zip(states, contexts, strict=True)
        ]


def _projector(kind: str, hidden: int) -> nn.Module:
    first = nn.Linear(hidden, hidden)
    if kind == "mlp":
        return nn.Sequential(first, nn.GELU(), nn.Linear(hidden, hidden))
    with torch.no_grad():
        first.weight.copy_(torch.eye(hidden))
        first.bias.zero_()
    return first


__all__ = ["CONTINUE", "INSTRUCT", "RESTORE", "Dolphin", "DolphinEncoder"]
