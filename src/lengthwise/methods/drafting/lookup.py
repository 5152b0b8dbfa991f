"""Lookup: what followed the last tokens the last times they stood here.

Saxena, "Prompt Lookup Decoding", 2023. A repository; there is no paper.

The last g tokens of prompt and output are searched for earlier in both. What followed there is the
guess for here. It needs no model and no training. It gives long right guesses wherever the output
quotes, edits or repeats what was read.

    for g = max_match, ..., min_match:  i = an earlier end of the last g tokens;
                                        if there is one: draft[j] = token[i + j], j = 1 .. max_draft

The original tries 3 tokens, then 2, then 1. It takes the earliest place that ten tokens follow, and
copies ten. transformers' `prompt_lookup_num_tokens` tries 2, then 1. It takes the earliest place
too, and copies what follows even if it is less.

Ours takes the longest match at any length, and the most recent place among equals. It believes no
single token unless `min_match=1` says so (see the page for what that costs). When the match
overlaps the end it reads its own draft, so that a loop is guessed as far as is asked. It tells the
policy how long the match was, which says most about how far it can be trusted. Beside the first
chain it guesses a few others. They are places of that match, then of shorter ones, that continue
with another token.

Nearest to the original is `lookup(max_match=3, min_match=1, max_draft=10, candidates=1)`, still of
the most recent place. The earliest place is what `copyspec(place=first)` and `sam` take.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.drafting._shared.match_length import BY_MATCH_LENGTH
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.retrieval.suffix_index import SuffixIndex

# Guesses of a chain beside the likeliest: it is seldom right, and then seldom for long.
BESIDE = 8
# Grades of the chains beside the first: their beginnings from here on, what follows from there.
BEGINNING, DEEPER = 16, 32


@dataclass(frozen=True)
class Lookup(Method):
    """max_draft: guesses of the likeliest chain. min_match, max_match: shortest and longest match
    sought. candidates: chains guessed at once, no two of which begin with the same token."""

    name: ClassVar[str] = "lookup"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "Prompt Lookup Decoding",
        "Saxena",
        2023,
        code="https://github.com/apoorvumang/prompt-lookup-decoding",
    )
    lossless: ClassVar[bool] = True
    max_draft: int = option(32, "most tokens guessed in a row", low=1)
    min_match: int = option(2, "shortest match that is believed, in tokens", low=1)
    max_match: int = option(32, "longest match that is told from longer ones, in tokens", low=1)
    candidates: int = option(4, "continuations guessed at once", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_match < self.min_match:
            raise RecipeError(
                f"lookup(min_match={self.min_match}, max_match={self.max_match}): no match is that "
                f"long and that short; give a max_match of at least {self.min_match}"
            )

    @classmethod
    def identity(cls, length: int) -> Lookup:
        """No match can be longer than the text."""
        return cls(min_match=length + 1, max_match=length + 1)

    def start_drafter(self, model: AdaptedModel) -> LookupDrafter:
        return LookupDrafter(self)


class LookupDrafter(Drafter):
    """Adds the chain of the best match, and short ones beside it that begin otherwise.

    The bucket of a guess of the first chain is that of the match that has grown up to it. That of
    the beginning of another chain tells its rank, and whether its match is as long as the best. Its
    further guesses have buckets by their own match, apart from those of the first chain.
    """

    name = "lookup"

    def __init__(self, options: Lookup) -> None:
        self.options = options
        self.index = SuffixIndex(options.min_match, options.max_match)

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        self.index.extend(sequence.tokens[:])

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        self.index.extend(tokens[len(self.index) :])
        places = self.index.places(self.options.candidates)
        count = min(limit, self.options.max_draft)
        for rank, (end, length) in enumerate(places):
            shift, parent = 0, 0
            for token in self.index.after(end, count if rank == 0 else min(count, BESIDE)):
                bucket, prior = BY_MATCH_LENGTH[min(length, len(BY_MATCH_LENGTH) - 1)]
                if rank and not shift:
                    bucket, prior = _beginning(rank, length == places[0][1])
                parent = tree.add(parent, token, self.name, bucket + shift, prior)
                shift = DEEPER if rank else 0
                length += 1


def _beginning(rank: int, longest: bool) -> tuple[int, float]:
    """Bucket and prior of the first guess of the chain of a rank, 1 and more."""
    rank = min(rank, 3)
    return (BEGINNING + rank, 0.25 / (rank + 1)) if longest else (BEGINNING + 4 + rank, 0.03)
