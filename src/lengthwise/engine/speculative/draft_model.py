"""Runs a draft model beside the target, over a sequence and a cache of its own.

The draft model reads what was committed, and scores trees of guesses without committing them. Of
the last tree it scored it keeps what was accepted, so an accepted token is not read twice.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.kv_cache.step_metadata import StepMetadata
from lengthwise.engine.loop import CHUNK, extend, prefill
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.speculative.tree import Tree
from lengthwise.models.adapted_model import AdaptedModel

# Tokens that are read together with a tree, rather than before it.
ALONG = 32


class DraftModelRunner:
    """Scores trees with a draft model.

    sequence: the draft model's; it holds committed tokens only, never the newest one.
    states: the hidden states `[nodes, hidden]` of the last tree scored.
    """

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.states: Tensor | None = None
        self._tried: tuple[Tree, StepMetadata] | None = None

    @classmethod
    def prefilled(
        cls, model: AdaptedModel, tokens: Seq[int], plan: Plan = FULL
    ) -> DraftModelRunner:
        """A runner that has read tokens as its prompt."""
        sequence = Sequence(model, plan, expected=len(tokens))
        if tokens:
            prefill(sequence, tokens)
        sequence.end_prefill()
        return cls(sequence)

    def score(self, tokens: Seq[int], tree: Tree, want_states: bool = False) -> Tensor:
        """Logits `[nodes, vocab]` at every node of a tree whose root is tokens[-1]."""
        self._catch_up(tokens)
        behind = list(tokens[len(self.sequence) : -1])
        whole = tree.below(behind)
        states: list[Tensor] | None = [] if want_states else None
        (logits,), (block,) = extend([(self.sequence, whole.tokens, whole)], "all", states)
        self._tried = whole, block
        self.states = states[0][len(behind) :] if states else None
        return logits[len(behind) :]

    def _catch_up(self, tokens: Seq[int]) -> None:
        """Commits what was accepted of the last tree, then reads the rest but for a few tokens."""
        known = len(self.sequence)
        if self._tried is not None:
            tree, block = self._tried
            accepted = [0]
            for token in tokens[known + 1 : -1]:
                child = tree.children[accepted[-1]].get(token)
                if child is None:
                    break
                accepted.append(child)
            # Nothing is committed beyond where the cache changes: that is read step by step.
            room = self.sequence.tokens_until_change()
            if known < len(tokens) - 1 and (room is None or len(accepted) <= room):
                self.sequence.commit(block, [tree.tokens[node] for node in accepted], accepted)
            else:
                self.sequence.discard()
            self._tried = None
        while (left := len(tokens) - 1 - len(self.sequence)) > self._along():
            start = len(self.sequence)
            part = list(tokens[start : start + min(left, self._most())])
            _, (block,) = extend([(self.sequence, part, None)], "none")
            self.sequence.commit(block, part)

    def _along(self) -> int:
        room = self.sequence.tokens_until_change()
        return ALONG if room is None else 0

    def _most(self) -> int:
        limits = [CHUNK, self.sequence.tokens_until_change(), self.sequence.max_block()]
        return max(1, min(limit for limit in limits if limit is not None))
