"""A drafter that knows the text and says a little of it, beside what is wrong."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from itertools import cycle

from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree


class Few(Drafter):
    """Guesses one, two or five of the next tokens in turn, and as many that are wrong."""

    name = "few"

    def __init__(self, prompt: int, text: Seq[int]) -> None:
        self._prompt, self._text, self._counts = prompt, list(text), cycle((1, 2, 5))

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        count = min(next(self._counts), limit)
        ahead = self._text[len(tokens) - self._prompt :][:count]
        tree.add_chain(ahead, source=self.name)
        for node, token in enumerate(ahead):
            tree.add(node, token + 1, source=self.name)
