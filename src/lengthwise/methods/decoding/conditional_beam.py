"""Beam search for the likeliest text that is none of the degenerate ones.

Yoshida, "Making the Most of your Model: Methods for Finetuning and Applying Pretrained
Transformers", 2024, arXiv:2408.16241, a PhD thesis.

The likeliest text of a good model may be the empty one, or one that goes round in circles, although
few of its samples are. So the search is for

    argmax log p(y | x, y in A) = argmax log p(y | x) + log 1[y in A],    scored on the way by
    log p(y_<=t | x) + log c(y_<=t),    c(y_<=t) = P(the whole text is in A | x, y_<=t)

A is the set of texts that are not degenerate. c stands in for its last value and is not summed up.
Here c is what the written tokens decide: 0 where no text of A begins so, else 1. That is exact for
the empty text, and prunes the others as soon as they are lost. The thesis trains a classifier for
what they leave open, on samples of the model.

With `hso` above 0 what the prompt left is first moved a step of that size towards its own end
(`engine/optimising.py`), which is another of the thesis' additions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq, Set
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.optimising import optimise
from lengthwise.engine.sampler import Sampler
from lengthwise.errors import LengthwiseError
from lengthwise.methods.base import Method, Needs, Paper, Question, option
from lengthwise.methods.decoding._shared.beams import (
    EARLY,
    BeamGroup,
    BeamSearch,
    by_length,
)
from lengthwise.models.adapted_model import AdaptedModel

NEVER = ("empty", "repeating", "unfinished", "all")
MOVES = Needs("hso above 0", lambda method: method.hso > 0)
# So many times in a row make a run of tokens a circle.
TIMES = 3


@dataclass(frozen=True)
class ConditionalBeam(Method):
    """width: texts that go on together. never: which texts are left out: empty ones, those that say
    up to `ngram` tokens three times in a row, those cut off at the limit, or all of these. hso: the
    step of hidden state optimisation. window: tokens of the prompt that it looks at."""

    name: ClassVar[str] = "conditional_beam"
    question: ClassVar[Question] = Question.DECODING
    paper: ClassVar[Paper] = Paper(
        "Making the Most of your Model: Methods for Finetuning and Applying Pretrained "
        "Transformers", "Yoshida", 2024, arxiv="2408.16241",
    )  # fmt: skip
    width: int = option(4, "texts that go on together", low=1, high=64)
    never: str = option("empty", "texts that are left out", choices=NEVER)
    ngram: int = option(8, "longest run of tokens that may go round in circles", low=1)
    length_penalty: float = option(0.0, "exponent of the length; 0 is the likeliest text")
    early_stopping: str = option("false", "when a search ends", choices=tuple(EARLY))
    hso: float = option(0.0, "step of hidden state optimisation", low=0.0)
    window: int = option(64, "last tokens of the prompt that it looks at", low=2, needs=MOVES)

    @classmethod
    def identity(cls, length: int) -> None:
        """Even one beam says something."""
        return None

    def start_mode(self, model: AdaptedModel) -> ConditionalSearch:
        def groups(limit: int) -> list[BeamGroup]:
            rank, early = by_length(self.length_penalty), EARLY[self.early_stopping]
            return [BeamGroup(self.width, rank, early, limit)]

        return ConditionalSearch(self, groups, model)


class ConditionalSearch(BeamSearch):
    """Beams none of which is lost."""

    def __init__(
        self, options: ConditionalBeam, groups: Callable[[int], list[BeamGroup]],
        model: AdaptedModel,
    ) -> None:  # fmt: skip
        super().__init__(options.name, groups, self._steered)
        self.options, self.tokenizer = options, model.tokenizer

    def begin(self, sampler: Sampler, limit: int, stop_ids: Set[int]) -> None:
        super().begin(sampler, limit, stop_ids)
        if self._never("unfinished") and not stop_ids:
            raise LengthwiseError(
                f"{self.name}(never={self.options.never}) wants texts that end by a stop token, "
                "and there is none: give stop_ids, or never=empty"
            )

    def start(self, sequence: Sequence, logits: Tensor) -> None:
        if self.options.hso:
            logits = optimise(sequence, self.options.window, self.options.hso)
        super().start(sequence, logits)

    def _never(self, what: str) -> bool:
        return self.options.never in (what, "all")

    def _steered(self, group: BeamGroup, scores: Tensor, chosen: Seq[int]) -> Tensor:
        """log c of every candidate is added: minus infinity where no good text begins so."""
        for row, beam in zip(scores, group.alive, strict=True):
            if self._never("empty") and self._empty(beam.tokens):
                row[list(self.stop_ids)] = float("-inf")
            if self._never("unfinished") and len(beam.tokens) + 1 >= group.limit:
                kept = row[list(self.stop_ids)].clone()
                row[:] = float("-inf")
                row[list(self.stop_ids)] = kept
            if self._never("repeating"):
                row[list(circling(beam.tokens, self.options.ngram))] = float("-inf")
        return scores

    def _empty(self, tokens: Seq[int]) -> bool:
        """Whether there is nothing to be seen of a text."""
        if self.tokenizer is None or not tokens:
            return not tokens
        return not str(self.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()


def circling(tokens: Seq[int], ngram: int) -> set[int]:
    """Tokens behind which the newest ones would stand TIMES in a row.

    Args:
        tokens: of a text.
        ngram: longest run that counts.
    """
    found = set()
    for length in range(1, ngram + 1):
        if len(tokens) + 1 < TIMES * length:
            break
        tail = list(tokens[len(tokens) + 1 - TIMES * length :])
        run = tail[:length]
        if tail == (run * TIMES)[:-1]:
            found.add(run[-1])
    return found


__all__ = ["ConditionalBeam", "ConditionalSearch", "circling"]
