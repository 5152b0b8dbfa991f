"""Layers: the model itself guesses, with some of its layers left out.

Zhang et al., "Draft & Verify: Lossless Large Language Model Acceleration via Self-Speculative
Decoding", 2023, arXiv 2309.08168; Elhoushi et al., "LayerSkip: Enabling Early Exit Inference and
Self-Speculative Decoding", 2024, arXiv 2404.16710; Xia et al., "SWIFT: On-the-Fly Self-Speculative
Decoding for LLM Inference Acceleration", 2024, arXiv 2410.06916. A residual network still says
something sensible when some of its layers are skipped, so no second model has to be held.

    draft(x):  h = embed(x);  for l in kept:  h = layer_l(h);  head(norm(h))
    layer_l reads the keys and values that the whole model has stored for it, and its own guesses'

Nothing is copied: weights are the model's own, and so is the cache, which the guesses leave as it
was. Reading what the whole model stored is worth much: first and last layers agree with the whole
more often than with a cache of their own making (docs/reproduction/layers.md). Which layers is
fixed by an option, where the first paper and SWIFT search; LayerSkip's early exit is `keep="0-9"`,
and what it gains comes from training that ordinary models have not had.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lengthwise.engine.sequence import Sequence
from lengthwise.engine.tree import Tree
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method, Question, option
from lengthwise.methods.drafting.asking import (
    AskingDrafter,
    depth_option,
    draws_option,
    width_option,
)
from lengthwise.methods.drafting.thinning import thinned
from lengthwise.models.adapt import Adapted


@dataclass(frozen=True)
class Layers(Method):
    """keep: layers that guess, as numbers and ranges from 0, or how many as a number or a share,
    which then are the first and the last. skip: in its place, the layers that do not guess."""

    name: ClassVar[str] = "layers"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[str] = "Draft & Verify (2023), arXiv 2309.08168"
    lossless: ClassVar[bool] = True
    keep: str = option("80%", 'layers that guess: 24, 80% or "0-11,18-29"')
    skip: str | None = option(None, 'layers left out, in place of keep: "12-17"')
    depth: int = depth_option(4)
    width: int = width_option(2)
    draws: str = draws_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skip is not None and self.keep != type(self).keep:
            raise RecipeError(f"{self}: keep and skip both say which layers guess; give one")

    @classmethod
    def identity(cls, length: int) -> Layers:
        """The whole model guesses what it will say."""
        return cls(keep="100%")

    def check(self, model: Adapted) -> None:
        thinned(model, self.kept(model))

    def kept(self, model: Adapted) -> tuple[int, ...]:
        """The layers that guess, ascending; raises RecipeError where there are none such."""
        total = len(model.layers)
        if self.skip is not None:
            out = _numbers(self.skip, total)
            found = tuple(layer for layer in range(total) if layer not in out)
        elif self.keep.endswith("%") or self.keep.isdecimal():
            found = _ends(_count(self.keep, total), total)
        else:
            found = tuple(sorted(_numbers(self.keep, total)))
        if not found:
            raise RecipeError(f"{self}: no layer is left to guess; keep at least one of {total}")
        return found

    def start_drafter(self, model: Adapted) -> LayersDrafter:
        return LayersDrafter(self, thinned(model, self.kept(model)), self.kept(model))


class LayersDrafter(AskingDrafter):
    """Asks kept layers of the target, through the target's own cache."""

    def __init__(self, options: Layers, draft: Adapted, kept: Seq[int]) -> None:
        super().__init__("layers", options.depth, options.width, options.draws)
        self.draft, self.kept = draft, kept

    def open(self, sequence: Sequence) -> Glance:
        return Glance(sequence, self.draft, self.kept)


class Glance:
    """Scores trees with some layers over a sequence that every layer has read, and leaves it as it
    was. See `asking.Scorer`."""

    def __init__(self, sequence: Sequence, draft: Adapted, kept: Seq[int]) -> None:
        self.sequence, self.draft, self.kept = sequence, draft, kept
        self.states: Tensor | None = None

    def score(self, tokens: Seq[int], tree: Tree, want_states: bool = False) -> Tensor:
        """Logits `[nodes, vocab]`; the sequence must hold tokens but for the last."""
        sequence, kept = self.sequence, self.kept
        block = sequence.block(len(tree), tree)
        ids = torch.tensor(tree.tokens, device=sequence.model.device)

        def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return sequence.attend(kept[layer], query, key, value, block)

        # Selections that remember their last choice must not remember those of guesses.
        selectors = [(group, group.selector) for _, group in sequence.groups()]
        states: list[Tensor] | None = [] if want_states else None
        try:
            for group, selector in selectors:
                group.selector = copy.copy(selector)
            logits = self.draft.forward(ids, block.index, attention, None, states)
        finally:
            for group, selector in selectors:
                group.selector = selector
            sequence.discard()
        self.states = states[0] if states else None
        return logits


def _count(text: str, total: int) -> int:
    """How many layers a number or a share means."""
    if text.isdecimal() and 1 <= int(text) <= total:
        return int(text)
    share = text.removesuffix("%")
    if text.endswith("%") and share.isdecimal() and 1 <= int(share) <= 100:
        return max(1, round(int(share) * total / 100))
    raise RecipeError(f"layers(keep={text}): allowed is 1 to {total} layers, or 1% to 100%")


def _ends(count: int, total: int) -> tuple[int, ...]:
    """The first and the last layers, as many of either."""
    first = (count + 1) // 2
    return *range(first), *range(total - count + first, total)


def _numbers(text: str, total: int) -> set[int]:
    """The layers of a list such as `0-5,24-29`."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise RecipeError(
                f'layers: {part.strip()!r} is no layer and no range; write "0-5,{total - 1}"'
            )
        ends = int(first), int(last) if dash else int(first)
        if not ends[0] <= ends[1] < total:
            raise RecipeError(
                f"layers: {part.strip()} is not among the layers 0 to {total - 1} of this model"
            )
        found.update(range(ends[0], ends[1] + 1))
    return found


__all__ = ["Glance", "Layers", "LayersDrafter", "thinned"]
