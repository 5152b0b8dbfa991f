"""Runs some of the target's layers as its draft model, over the target's own cache.

No method of its own. It stands in for `DraftModelRunner` where a part of the target drafts: the
cache is what all layers have filled, and stays as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence as Seq

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.speculative.tree import Tree
from lengthwise.models.adapted_model import AdaptedModel


class LayerSkipScorer:
    """Scores trees with some layers, over a sequence that every layer has read and that stays as it
    was. See `model_drafter.Scorer`."""

    def __init__(self, sequence: Sequence, draft: AdaptedModel, kept: Seq[int]) -> None:
        self.sequence, self.draft, self.kept = sequence, draft, kept
        self.states: Tensor | None = None

    def score(self, tokens: Seq[int], tree: Tree, want_states: bool = False) -> Tensor:
        """Logits `[nodes, vocab]`; the sequence must hold tokens but for the last."""
        sequence, kept = self.sequence, self.kept
        block = sequence.next_step(len(tree), tree)
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


__all__ = ["LayerSkipScorer"]
