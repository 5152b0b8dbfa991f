"""SAM-Decoding: a suffix automaton finds the longest end of the text that stood there before.

Hu et al., "SAM Decoding: Speculative Decoding via Suffix Automaton", ACL 2025, arXiv:2411.10666.

Two automata are read along with the text, one of the text itself and one of a corpus. What is
copied comes from the one that knows the longer end. A short match is left to another drafter:

    l_dyn, l_sta = lengths of the longest end of the text in the text before it, and in the corpus
    copy from the corpus  if  l_sta - bias > l_dyn,  else from the text:   l = the larger of the two
    guess nothing         if  l < threshold:   the place of an auxiliary drafter, as in `sam +
                                               recycling`
    draft = the tokens behind the earliest place of that end, at most min(max_draft, alpha l)

The authors' code comes in two settings. Alone, it copies alpha = 4 tokens a token of match, with no
threshold, which is the default here. Beside an auxiliary drafter it copies 40 whatever the match,
from 5 tokens on: `sam(threshold=5, alpha=none)`. There the one or the other guesses. Here both
write into one tree, and the policy verifies what is worth it. So a threshold only leaves out what
no other drafter has guessed.

As in the code, a place that fewer than `max_draft` tokens follow is given up for a shorter end that
stood further ahead. Beyond the end of the text ours reads its own copy, where the code pads with
token 0. The corpus is a datastore with a suffix array (`lengthwise datastore build`), which finds
the same longest end. A document's end is an end. The text's automaton costs O(1) a token, the
corpus a binary search a step.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.engine.speculative.tree import Tree
from lengthwise.methods.base import Method, Needs, Paper, Question, option
from lengthwise.methods.drafting._shared.match_length import BY_MATCH_LENGTH
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.retrieval.datastore import SEPARATOR, Datastore, opened_for
from lengthwise.retrieval.suffix_automaton import SuffixAutomaton


@dataclass(frozen=True)
class SAM(Method):
    """max_draft, alpha: how much is copied. threshold: shortest match. datastore: of the corpus,
    whose matches count `bias` tokens less."""

    name: ClassVar[str] = "sam"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[Paper] = Paper(
        "SAM Decoding: Speculative Decoding via Suffix Automaton",
        "Hu et al.",
        2025,
        arxiv="2411.10666",
        venue="ACL",
        code="https://github.com/hyx1999/SAM-Decoding",
    )
    best_known: ClassVar[str] = "sam(alpha=none)"
    lossless: ClassVar[bool] = True
    max_draft: int = option(40, "most tokens copied a step", low=1)
    alpha: float | None = option(4.0, "tokens copied a token of match; none: max_draft", low=0)
    threshold: int = option(1, "shortest match that is copied from, in tokens", low=1)
    datastore: str = option("", "file of a corpus (`lengthwise datastore build`); none: the text")
    bias: int = option(
        5,
        "tokens by which the corpus must know a longer end than the text",
        low=0,
        needs=Needs("datastore=FILE", lambda method: method.datastore),
    )

    @classmethod
    def identity(cls, length: int) -> SAM:
        """No match can be longer than the text."""
        return cls(threshold=length + 1)

    def check(self, model: AdaptedModel) -> None:
        self.store(model)

    def store(self, model: AdaptedModel) -> Datastore | None:
        """The corpus, where one is named; raises RecipeError or Refused where it cannot serve this
        model."""
        return opened_for(self.name, self.datastore, model)

    def start_drafter(self, model: AdaptedModel) -> SAMDrafter:
        return SAMDrafter(self, self.store(model))


class SAMDrafter(Drafter):
    """Adds one chain. The bucket of a guess is that of the match that has grown up to it;
    guesses from the corpus have buckets of their own."""

    name = "sam"

    def __init__(self, options: SAM, store: Datastore | None = None) -> None:
        self.options = options
        self.automaton = SuffixAutomaton()
        self.corpus = None if store is None else Corpus(store)

    def begin(self, sequence: Sequence, sampling: Sampling) -> None:
        self.automaton.extend(sequence.tokens)

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        options, copied = self.options, None
        self.automaton.extend(tokens[len(self.automaton) :])
        end, length = self.automaton.longest(options.max_draft)
        if self.corpus is not None:
            place, known = self.corpus.longest(tokens)
            if known - options.bias > length:
                length = known - options.bias
                copied = self.corpus.after(place, known, self._count(length, limit))
        if length < options.threshold:
            return
        shift = len(BY_MATCH_LENGTH) if copied is not None else 0
        if copied is None:
            copied = _after(tokens, end, self._count(length, limit))
        parent = 0
        for token in copied:
            bucket, prob = BY_MATCH_LENGTH[min(length, len(BY_MATCH_LENGTH) - 1)]
            parent = tree.add(parent, token, self.name, bucket + shift, prob)
            length += 1

    def _count(self, length: int, limit: int) -> int:
        options = self.options
        most = options.max_draft if options.alpha is None else int(options.alpha * length)
        return min(limit, options.max_draft, most)


def _after(tokens: Seq[int], end: int, count: int) -> list[int]:
    """What stands from `end` on; past the end of the text it repeats itself, as the match does."""
    period = len(tokens) - end
    found = list(tokens[end : end + count])
    while len(found) < count:
        found.append(found[-period])
    return found


class Corpus:
    """The longest end of a growing text that a corpus has, at its earliest place.

    No end grows by more than the text does, so what was found last bounds what is sought now.
    """

    def __init__(self, store: Datastore) -> None:
        self.store = store
        self._length = self._known = 0

    def longest(self, tokens: Seq[int]) -> tuple[int, int]:
        """(place, length): the end stands at `corpus[place : place + length]`."""
        bound = min(self._length + len(tokens) - self._known, len(tokens))
        size = min(16, bound)
        match = self.store.longest(tokens[-size:], size, 1)
        while match.length == size < bound:
            size = min(2 * size, bound)
            match = self.store.longest(tokens[-size:], size, 1)
        self._length, self._known = match.length, len(tokens)
        if not match:
            return 0, 0
        return int(self.store.suffixes[match.start : match.stop].min()), match.length

    def after(self, place: int, length: int, count: int) -> list[int]:
        """What follows an end of a length at a place, up to the end of its document."""
        start = place + length
        found: list[int] = self.store.tokens[start : start + count].tolist()
        return found[: found.index(SEPARATOR)] if SEPARATOR in found else found


__all__ = ["SAM", "Corpus", "SAMDrafter"]
