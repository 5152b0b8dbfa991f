"""Guesses of what a law leaves no choice about: a grammar's keywords, brackets and names of fields.

Jump-forward decoding (SGLang, 2024) writes such text unasked, cut as a tokenizer cuts it. Guessed,
the model may cut it otherwise, and what is said is what the law and the model would have said.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.next_token_law import NextTokenLaw
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree

# Until the text has shown how the model cuts what is forced.
PRIOR = 0.8


class ForcedDrafter(Drafter):
    """Adds what a law says must follow, as one chain."""

    name = "forced"

    def __init__(self, law: NextTokenLaw) -> None:
        self._law, self._prompt = law, 0

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        self._prompt = len(sequence)

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        parent = 0
        for token in self._law.forced(list(tokens[self._prompt :]))[:limit]:
            parent = tree.add(parent, token, self.name, 0, PRIOR)


def forced_drafters(laws: Seq[NextTokenLaw]) -> list[Drafter]:
    """Drafters of those laws that say what must follow.

    Args:
        laws: of a request.
    """
    tell = [law for law in laws if type(law).forced is not NextTokenLaw.forced]
    return [ForcedDrafter(law) for law in tell]


__all__ = ["ForcedDrafter", "forced_drafters"]
