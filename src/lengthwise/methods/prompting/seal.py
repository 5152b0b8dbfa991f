"""SEAL: passages that have the n-grams which the model would write in answer.

Bevilacqua and others, "Autoregressive Search Engines: Generating Substrings as Document
Identifiers", NeurIPS 2022, arXiv:2204.10628. A model is asked and writes by beam search, but of all
tokens only those that go on as some passage does. All beginnings of all beams are n-grams of
passages. With N tokens in all passages, of which F(n) begin an n-gram n, and what the model gives
it, p(n):

    s(n) = log p(n | question)        r(n) = log((F(n) + 5) / (N + 5))
    w(n) = max(0, s + log(1 - e^r) - r - log(1 - e^s))^2
    score of a passage = sum over its n-grams of w(n) (1 - b + b |n without C| / |n|), b = .8

The n-grams of a passage are counted by w, the largest first, each once and where none before it
stands; C are the tokens of those before. Then its other tokens are counted in the same way, each a
unigram by the model's first step, without the square; of all tokens the best 1,000.

Defaults are those of the released code: beam 15, length 10, no length penalty.

Ours: the paper trains BART to write spans of the passage, titles of pages and markers before them.
Here the user's own model answers as it is. In few tokens chance is no rare event: r is at least
log(6 / N), and an n-gram of less probability weighs nothing. `among=allowed` takes the share of
each token among those that go on as some passage does. A suffix array stands for the FM-index. All
passages get the whole score, where the paper gives it to the best of a first stage. Unigrams are
not taken among the n-grams as well, and words of the question are not added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence as Seq
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import numpy as np
from torch import Tensor

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.budget import Budget
from lengthwise.methods.prompting._shared.choosing import choose
from lengthwise.methods.prompts import (
    Passage,
    PromptText,
    Steps,
    TextModel,
    TokenModel,
    steps_of,
)
from lengthwise.methods.text_budget import text_budget
from lengthwise.retrieval.datastore import Datastore, Match

SMOOTHING = 5.0
# How much of a weight hangs on tokens that were not counted before.
BETA = 0.8
# A probability of 1 would weigh infinitely much.
CAP = -1e-10

Gram = tuple[int, ...]


@dataclass(frozen=True)
class Seal(Method):
    """Has the model write what passages say, and reads those that say it."""

    name: ClassVar[str] = "seal"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "Autoregressive Search Engines: Generating Substrings as Document Identifiers",
        "Bevilacqua and others", 2022, arxiv="2204.10628", venue="NeurIPS",
        code="https://github.com/facebookresearch/SEAL",
    )  # fmt: skip

    best_known: ClassVar[str] = "seal(among=allowed)"

    budget: Budget = text_budget()
    passage: int = option(128, "most tokens of a passage", low=1)
    beam: int = option(15, "n-grams that are written side by side", low=1)
    length: int = option(10, "most tokens of an n-gram", low=1)
    unigrams: int = option(1000, "likeliest first tokens that count by themselves", low=0)
    among: str = option(
        "all", "what a token's probability is a share of: all tokens, or those that may go on",
        choices=("all", "allowed"),
    )  # fmt: skip
    cue: str = option('The text says: "', "what the answer begins with, before it is searched for")
    language: str = option("en", "code of the language whose sentences are cut")

    @classmethod
    def identity(cls, length: int) -> Seal:
        return cls(budget=Budget(length))

    @classmethod
    def example(cls) -> Seal:
        return cls(budget=Budget(40), passage=24, beam=3, length=4, unigrams=8)

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        return choose(
            documents, question, model, self.budget, self.passage, self.language,
            partial(self._scores, steps_of(model, self.name), question),
        )  # fmt: skip

    def _scores(self, model: TokenModel, question: str, passages: Seq[Passage]) -> Seq[float]:
        every = [model.ids(each.text) for each in passages]
        top = max((max(ids) for ids in every if ids), default=-1)
        if top < 0:
            return [0.0] * len(every)
        index = Datastore.build(every, top + 1)
        steps = model.begin(question, self.cue)
        grams = written(steps, index, self.beam, self.length, self.among)
        singles = self._unigrams(steps, index, grams)
        return scores(index, [len(ids) for ids in every], grams, singles)

    def _unigrams(
        self, steps: Steps, index: Datastore, grams: dict[Gram, float]
    ) -> dict[int, float]:
        """What each of the likeliest tokens weighs, those left out that were written by
        themselves."""
        (logs,) = steps.after([()])
        likely = logs.topk(min(self.unigrams, len(logs)))
        found = {}
        for token, log in zip(likely.indices.tolist(), likely.values.tolist(), strict=True):
            if (token,) not in grams and (count := index.count([token])):
                found[token] = weight(log, count, tokens_in(index))
        return found


def tokens_in(index: Datastore) -> int:
    """N: tokens of all passages."""
    return index.count(())


def written(
    steps: Steps, index: Datastore, beam: int, length: int, among: str = "all"
) -> dict[Gram, float]:
    """The n-grams that a model writes of those in an index, with their log probabilities.

    Args:
        steps: of the model.
        index: of passages.
        beam: how many go on after each token, the likeliest.
        length: most tokens.
        among: whether a probability is a share of "all" tokens or of those that are "allowed".

    Returns:
        All beginnings of all beams; each stands in a passage.
    """
    found: dict[Gram, float] = {}
    beams: dict[Gram, _Beam] = {(): _Beam(index.everywhere)}
    for _ in range(length):
        best: list[tuple[Gram, _Beam]] = []
        for (gram, each), row in zip(beams.items(), steps.after([*beams]), strict=True):
            best += [((*gram, token), new) for token, new in each.go_on(index, row, beam, among)]
        best.sort(key=lambda new: -new[1].rank)
        beams = {
            gram: replace(each, match=index.extended(each.match, gram[-1]))
            for gram, each in best[:beam]
        }
        if not beams:
            break
        found |= {gram: each.log for gram, each in beams.items()}
    return found


@dataclass(frozen=True)
class _Beam:
    """An n-gram that is written: where it stands, its log probability among all tokens, by which
    beams are ranked, and that which is given back."""

    match: Match
    rank: float = 0.0
    log: float = 0.0

    def go_on(
        self, index: Datastore, row: Tensor, most: int, among: str
    ) -> Iterator[tuple[int, _Beam]]:
        """The likeliest tokens behind it, each with what the n-gram then is but for its places."""
        allowed = index.following(self.match)
        allowed = allowed[allowed < len(row)]
        logs = row.double().numpy()[allowed]
        share = float(np.logaddexp.reduce(logs)) if among == "allowed" and len(logs) else 0.0
        for n in (-logs).argsort(kind="stable")[:most].tolist():
            log = float(logs[n])
            yield int(allowed[n]), _Beam(self.match, self.rank + log, self.log + log - share)


def weight(log: float, count: int, tokens: int) -> float:
    """How much likelier the model makes an n-gram than chance does; w(n) before the square.

    Args:
        log: what the model gives it, s(n).
        count: how often it stands in the passages.
        tokens: of all passages.
    """
    log = min(log, CAP)
    chance = min(math.log((count + SMOOTHING) / (tokens + SMOOTHING)), CAP)
    return max(0.0, log + math.log(-math.expm1(chance)) - chance - math.log(-math.expm1(log)))


def uncovered(gram: Seq[int], seen: set[int]) -> float:
    """The factor of an n-gram whose tokens may have been counted before.

    Args:
        gram: its tokens.
        seen: tokens counted before.
    """
    own = set(gram)
    return 1 - BETA + BETA * len(own - seen) / len(own)


@dataclass
class _Passage:
    """What was counted of a passage: where nothing stands yet, which tokens were seen."""

    free: list[bool]
    seen: set[int] = field(default_factory=set)
    score: float = 0.0


def scores(
    index: Datastore, sizes: Seq[int], grams: dict[Gram, float], singles: dict[int, float]
) -> list[float]:
    """The score of each passage.

    Args:
        index: of the passages, those without tokens left out.
        sizes: tokens of each passage, in order.
        grams: n-grams with their log probabilities.
        singles: what tokens weigh by themselves.
    """
    filled = [size for size in sizes if size]
    # Behind each passage stands a separator.
    starts = np.cumsum([0, *(size + 1 for size in filled)])
    every = [_Passage([True] * size) for size in filled]
    total = tokens_in(index)
    weights = {gram: weight(log, index.count(gram), total) ** 2 for gram, log in grams.items()}
    for gram, worth in sorted(weights.items(), key=lambda each: -each[1]):
        if worth > 0:
            _count(index, gram, worth, starts, every)
    for number, each in enumerate(every):
        tokens = index.tokens[starts[number] : starts[number + 1] - 1].tolist()
        left = dict.fromkeys(t for t, free in zip(tokens, each.free, strict=True) if free)
        each.score += sum(singles.get(token, 0.0) * uncovered([token], each.seen) for token in left)
    done = iter(each.score for each in every)
    return [next(done) if size else 0.0 for size in sizes]


def _count(
    index: Datastore, gram: Gram, worth: float, starts: np.ndarray, every: Seq[_Passage]
) -> None:
    """Counts an n-gram in each passage that has it where nothing was counted before."""
    match = index.find(gram)
    done: set[int] = set()
    for place in np.sort(index.suffixes[match.start : match.stop]).tolist():
        number = int(np.searchsorted(starts, place, "right")) - 1
        each, at = every[number], place - int(starts[number])
        if not all(each.free[at : at + len(gram)]):
            continue
        each.free[at : at + len(gram)] = [False] * len(gram)
        if number not in done:
            done.add(number)
            each.score += worth * uncovered(gram, each.seen)
            each.seen |= set(gram)


__all__ = ["Seal", "scores", "uncovered", "weight", "written"]
