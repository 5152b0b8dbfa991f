"""Which layers a draft model can leave out, found by trying.

No method of its own: `swift` searches while it decodes, `lengthwise calibrate layers` once, before.
A set of layers is scored by its matchness on a text. That is the share of tokens for which it
chooses the token that was said. It reads the keys and values that the whole model stored for what
came before. This is the score of SWIFT (arXiv:2410.06916). Draft & Verify (arXiv:2309.08168)
minimises the time of a token instead.
"""

from __future__ import annotations

import random
from collections.abc import Sequence as Seq
from dataclasses import replace

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.drafting._shared.layer_skip_scorer import LayerSkipScorer
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.cut import cut_model

# Every so many trials the best set is changed in one place; the others are drawn anew.
NEAR = 2


class LayerSearch:
    """Proposes sets of layers to keep, and remembers the best. The first and last layer are always
    kept, and the first set leaves out every other layer in between as far as that goes.

    kept: the best set so far, ascending. score: its matchness. tried: how many sets were scored.
    """

    def __init__(self, total: int, skipped: int, seed: int = 0) -> None:
        self.total, self.skipped = total, min(skipped, max(0, total - 2))
        self._draw = random.Random(seed)
        self.kept = self._without(self._spread())
        self.score = 0.0
        self.tried = self.unchanged = 0
        self._proposed = self.kept

    def _spread(self) -> list[int]:
        inner = range(1, self.total - 1)
        order = [*inner[::2], *inner[1::2]]
        return order[: self.skipped]

    def _without(self, skipped: Seq[int]) -> tuple[int, ...]:
        return tuple(layer for layer in range(self.total) if layer not in set(skipped))

    def propose(self) -> tuple[int, ...]:
        """The set to score next."""
        inner = list(range(1, self.total - 1))
        if self.tried and self.tried % NEAR == 0 and self.skipped:
            out = [layer for layer in inner if layer not in self.kept]
            rest = [layer for layer in inner if layer in self.kept]
            if rest:
                out[self._draw.randrange(len(out))] = self._draw.choice(rest)
            self._proposed = self._without(out)
        elif self.tried:
            self._proposed = self._without(self._draw.sample(inner, self.skipped))
        return self._proposed

    def tell(self, score: float) -> None:
        """The matchness of the set that was proposed last."""
        self.tried += 1
        self.unchanged += 1
        if score > self.score or self.tried == 1:
            self.kept, self.score, self.unchanged = self._proposed, score, 0

    @property
    def left_out(self) -> str:
        """The layers that the best set leaves out, as `layers(skip=...)` writes them."""
        return ",".join(str(layer) for layer in range(self.total) if layer not in self.kept)


def some_layers(model: AdaptedModel, kept: Seq[int]) -> AdaptedModel:
    """A model of these layers that shares everything with the whole one and asks it nothing.

    Many are tried and few are used, so none is probed or fused.
    """
    facts = [replace(model.layers[layer], index=index) for index, layer in enumerate(kept)]
    return AdaptedModel(cut_model(model.model, kept), facts, model.rope, model.trained_length,
                   )  # fmt: skip


def matchness(model: AdaptedModel, before: Sequence, kept: Seq[int], said: Seq[int]) -> float:
    """Of the tokens said[1:], the share that these layers choose behind those before them.

    before: has read, with all layers, what stands before said.
    """
    tree = Tree(said[0])
    tree.add_chain(said[1:-1])
    logits = LayerSkipScorer(before, some_layers(model, kept), kept).score(
        [*before.tokens, said[0]], tree
    )
    chosen = logits.argmax(-1).tolist()
    right: int = sum(a == b for a, b in zip(chosen, said[1:], strict=True))
    return right / len(chosen)


__all__ = ["LayerSearch", "matchness", "some_layers"]
