"""CopySpec: the last gamma tokens stood here before, so the block that followed is copied.

Dumitru et al., "CopySpec: Accelerating LLMs with Speculative Copy-and-Paste Without Compromising
Quality", EMNLP 2025, arXiv:2502.08923.

A hash table leads from every run of gamma tokens to where it stood. A step looks once, and does not
search for the longest match.

    place[(x_i-gamma+1, ..., x_i)] = i;    draft[j] = x_(place[last gamma] + j),  j = 1 .. copy

The authors' code takes the first place. Ours takes the last one unless told otherwise (`place`). In
a text that changes as it is repeated, the last place is nearer to what comes. Ours compares tokens
where the code trusts their hash. Ours copies while sampling too, where the code asks for a
probability of one. And ours reads its own copy when the place overlaps the end.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.models.adapted_model import AdaptedModel


@dataclass(frozen=True)
class CopySpec(Method):
    """gamma: tokens that must agree. copy: tokens copied. place: of several, which is copied."""

    name: ClassVar[str] = "copyspec"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "CopySpec: Accelerating LLMs with Speculative Copy-and-Paste Without Compromising Quality",
        "Dumitru et al.",
        2025,
        arxiv="2502.08923",
        venue="EMNLP",
        code="https://github.com/RazvanDu/CopySpec",
    )
    lossless: ClassVar[bool] = True
    gamma: int = option(3, "tokens that must agree before a block is copied", low=1)
    copy: int = option(10, "most tokens copied a step", low=1)
    place: str = option("last", "which of several places is copied", choices=("first", "last"))

    @classmethod
    def identity(cls, length: int) -> CopySpec:
        """No run of tokens can be longer than the text."""
        return cls(gamma=length + 1)

    def start_drafter(self, model: AdaptedModel) -> CopySpecDrafter:
        return CopySpecDrafter(self)


class CopySpecDrafter(Drafter):
    """Adds one chain where the last tokens are known. A guess's bucket is that of its depth."""

    name = "copyspec"

    def __init__(self, options: CopySpec) -> None:
        self.options = options
        # Keys are the tokens themselves, so two runs that share a hash are still told apart.
        self._next: dict[tuple[int, ...], int] = {}
        self._known = options.gamma

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        self._index(sequence.tokens)

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        gamma, count = self.options.gamma, len(tokens)
        self._index(tokens)
        place = self._next.get(tuple(tokens[count - gamma :])) if count > gamma else None
        if place is None:
            return
        copied: list[int] = []
        parent = 0
        for depth in range(min(limit, self.options.copy)):
            at = place + depth
            copied.append(tokens[at] if at < count else copied[at - count])
            bucket = _bucket(depth)
            parent = tree.add(parent, copied[-1], self.name, bucket, _PRIORS[bucket])

    def _index(self, tokens: Seq[int]) -> None:
        """Enters the runs that end before the last token: the end must not be found itself."""
        gamma = self.options.gamma
        for end in range(self._known, len(tokens)):
            gram = tuple(tokens[end - gamma : end])
            if self.options.place == "last":
                self._next[gram] = end
            else:
                self._next.setdefault(gram, end)
        self._known = max(self._known, len(tokens))


def _bucket(depth: int) -> int:
    """0, 1, 2, 3 and up, 5 and up: what has come true so far is a longer match."""
    return depth if depth < 3 else 3 if depth < 5 else 4


# Measured on a 135M model over twenty pieces of work, half of them grounded in their prompt.
_PRIORS = (0.75, 0.8, 0.8, 0.8, 0.9)
