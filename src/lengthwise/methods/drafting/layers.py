"""Layers: the model itself guesses, with some of its layers left out.

Zhang et al., "Draft & Verify: Lossless Large Language Model Acceleration via Self-Speculative
Decoding", ACL 2024, arXiv:2309.08168. Elhoushi et al., "LayerSkip: Enabling Early Exit Inference
and Self-Speculative Decoding", ACL 2024, arXiv:2404.16710. Xia et al., "SWIFT: On-the-Fly
Self-Speculative Decoding for LLM Inference Acceleration", ICLR 2025, arXiv:2410.06916.

A residual network still says something sensible when some of its layers are skipped. So no second
model is needed.

    draft(x):  h = embed(x);  for l in kept:  h = layer_l(h);  head(norm(h))
    layer_l reads the keys and values that the whole model has stored for it, and its own guesses'

Nothing is copied. Weights are the model's own, and so is the cache, which the guesses leave as it
was. Reading what the whole model stored helps much: first and last layers agree with the whole more
often than with a cache of their own making (docs/reproduction/layers.md).

Which layers is fixed by an option, where the first paper and SWIFT search. LayerSkip's early exit
is `keep="0-9"`. What it gains comes from training that ordinary models have not had.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.drafting._shared.layer_skip_scorer import LayerSkipScorer
from lengthwise.methods.drafting._shared.layer_subset import kept_layers, layer_subset, parse_layers
from lengthwise.methods.drafting._shared.model_drafter import (
    ModelDrafter,
    depth_option,
    draws_option,
    width_option,
)
from lengthwise.methods.papers import SWIFT
from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class Layers(Method):
    """keep: layers that guess, as numbers and ranges from 0, or how many as a number or a share,
    which then are the first and the last. skip: in its place, the layers that do not guess."""

    name: ClassVar[str] = "layers"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[tuple[Paper, ...]] = (
        Paper(
            "Draft & Verify: Lossless Large Language Model Acceleration via Self-Speculative "
            "Decoding",
            "Zhang et al.",
            2024,
            arxiv="2309.08168",
            venue="ACL",
            code="https://github.com/dilab-zju/self-speculative-decoding",
        ),
        Paper(
            "LayerSkip: Enabling Early Exit Inference and Self-Speculative Decoding",
            "Elhoushi et al.",
            2024,
            arxiv="2404.16710",
            venue="ACL",
            code="https://github.com/facebookresearch/LayerSkip",
        ),
        SWIFT,
    )
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

    def check(self, model: AdaptedModel) -> None:
        self.start_drafter(model)

    def kept(self, model: AdaptedModel) -> tuple[int, ...]:
        """The layers that guess, ascending; raises RecipeError where there are none such."""
        if self.skip is not None:
            out = parse_layers(self.skip, len(model.layers))
            found = tuple(layer for layer in range(len(model.layers)) if layer not in out)
        else:
            found = kept_layers(self.keep, model)
        if not found:
            raise RecipeError(
                f"{self}: no layer is left to guess; keep at least one of {len(model.layers)}"
            )
        return found

    def start_drafter(self, model: AdaptedModel) -> LayersDrafter:
        return LayersDrafter(self, layer_subset(model, self.kept(model)), self.kept(model))


class LayersDrafter(ModelDrafter):
    """Asks kept layers of the target, through the target's own cache."""

    def __init__(self, options: Layers, draft: AdaptedModel, kept: Seq[int]) -> None:
        super().__init__("layers", options.depth, options.width, options.draws)
        self.draft, self.kept = draft, kept

    def open(self, sequence: Sequence) -> LayerSkipScorer:
        return LayerSkipScorer(sequence, self.draft, self.kept)


__all__ = ["LayerSkipScorer", "Layers", "LayersDrafter", "layer_subset"]
