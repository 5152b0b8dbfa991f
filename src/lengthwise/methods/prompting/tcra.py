"""TCRA-LLM: passages are retrieved, and then compressed: by words left out, or by a summary.

Liu and others, "TCRA-LLM: Token Compression Retrieval Augmented Large Language Model for Inference
Cost Reduction", 2023, arXiv:2310.15556. The passages nearest to the question are read shortened.
Semantic compression leaves out the words without which the vector of a passage hardly changes:

    delta_i = 1 - cos(E(passage), E(passage without word i))      the words of least delta go

The paper removes 20% of the tokens so; its summaries, of a fine-tuned T5, remove 65%. These are the
defaults of `ratio`: passages of budget / (1 - ratio) tokens are retrieved, and compressed until
they fit the budget. `retrieve=false` compresses all of the documents, whatever is asked.

Ours: passages are scored one by one, so that an encoder reads them whole. `rounds=1` scores words
once, which leaves out what two of them do together; with more rounds what is left is scored again.
Negations are cheap for vectors and dear to readers: English ones stay (`negations=false` lets them
go). Punctuation stays. Summaries are written by the model itself, untrained, without the question.
No code and no data were released.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import dataclass, replace
from typing import ClassVar

from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.budget import Budget
from lengthwise.methods.options import Needs
from lengthwise.methods.prompting._shared.choosing import passages, split_at
from lengthwise.methods.prompting._shared.encoders import example_encoder, require_encoder
from lengthwise.methods.prompting._shared.notes import (
    check_fits,
    note_of,
    or_nothing,
    together,
)
from lengthwise.methods.prompts import (
    GAP,
    Passage,
    PromptText,
    TextModel,
    cut,
    joined,
    places,
    whole,
    within,
)
from lengthwise.methods.text_budget import text_budget, tokens_of
from lengthwise.retrieval.dense import vector_scores, vectors_of
from lengthwise.tokenization.words import word_pattern

ASK = (
    "Above is a part of a longer text. Summarise it in at most {words} words, and keep names and "
    "numbers as they stand there."
)
# The share of tokens that the paper removes, and the words that a token is, about.
RATIOS, WORDS = {"semantic": 0.2, "summary": 0.65}, 0.75
# Tokens behind the budget that are looked at run by run: the last ones of a text may become others
# where what follows goes. Runs beyond them go at once.
NEAR = 64
NEGATIONS = frozenset((
    "cannot", "neither", "never", "no", "nobody", "none", "nor", "not", "nothing", "nowhere",
    "without",
))  # fmt: skip
Span = tuple[int, int]
_WORD = re.compile(word_pattern("'’") + r"\s*")
_SEMANTIC = Needs("compress=semantic", lambda self: self.compress == "semantic")
_SUMMARY = Needs("compress=summary", lambda self: self.compress == "summary")


@dataclass(frozen=True)
class TCRA(Method):
    """Retrieves passages, and reads them without the words that change their vectors least."""

    name: ClassVar[str] = "tcra"
    question: ClassVar[str] = Question.PROMPTING
    paper: ClassVar[Paper] = Paper(
        "TCRA-LLM: Token Compression Retrieval Augmented Large Language Model for Inference Cost "
        "Reduction", "Liu and others", 2023, arxiv="2310.15556",
    )  # fmt: skip

    budget: Budget = text_budget()
    encoder: str = option("", "folder of an encoder that compares; it must be given")
    compress: str = option(
        "semantic", "how passages are shortened: by words left out, or by the model's summaries",
        choices=("semantic", "summary"),
    )  # fmt: skip
    retrieve: bool = option(True, "whether passages near the question are taken first, or all are")
    ratio: float | None = option(
        None, "share of what is retrieved that goes; none: 0.2 of words, 0.65 by summaries",
        low=0.01, high=0.99, needs=Needs("retrieve=true", lambda self: self.retrieve),
    )  # fmt: skip
    rounds: int = option(1, "how often words are scored while they go", low=1, needs=_SEMANTIC)
    negations: bool = option(True, "whether English negations stay", needs=_SEMANTIC)
    chunk: int = option(512, "most tokens that are summarised together", low=2, needs=_SUMMARY)
    passage: int = option(128, "most tokens of a passage", low=1)
    language: str = option("en", "code of the language whose sentences are cut")
    split: str = split_at()

    @classmethod
    def identity(cls, length: int) -> TCRA:
        return cls(budget=Budget(length))

    @classmethod
    def example(cls) -> TCRA:
        return cls(budget=Budget(16), encoder=example_encoder(), passage=16)

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        length, budget = tokens_of(documents, self.budget, model)
        if length <= budget:
            return PromptText(whole(documents), question)
        require_encoder(self.name, self.encoder)
        if self.compress == "summary":
            check_fits(self, model, 2 * self.chunk, ASK, "a part and its summary")
        every = list(passages(documents, model, self.passage, self.language, self.split))
        taken = self._taken(every, question, model, budget)
        alone = sum(model.count(each.text) for each in taken)
        apart = model.count(joined(taken)) - alone
        share = min(1.0, max(0, budget - apart) / alone)
        if self.compress == "summary":
            notes = within(model, list(self._summaries(taken, model, share)), budget, tuple)
            return PromptText(or_nothing(model, notes, budget), question, tuple(every))
        runs = list(self._runs(taken, model, share))
        read = _fitting(runs, model, budget) or [cut(model, taken[0], budget)]
        return PromptText(tuple(read), question, tuple(every))

    def _taken(
        self, every: Seq[Passage], question: str, model: TextModel, budget: int
    ) -> tuple[Passage, ...]:
        """The passages that are compressed, in their order."""
        filled = [each for each in every if each.text.strip()] or every
        if not self.retrieve:
            return tuple(filled)
        scores = vector_scores([each.text for each in filled], question, self.encoder)
        ranked = [filled[n] for n in (-scores).argsort(kind="stable").tolist()]
        ratio = self.ratio or RATIOS[self.compress]
        return within(model, ranked, round(budget / (1 - ratio)), _side_by_side)

    def _runs(self, taken: Seq[Passage], model: TextModel, share: float) -> Iterator[Passage]:
        """What is left of the passages, each of `share` of its tokens."""
        last: Passage | None = None
        for each in taken:
            target = max(1, int(model.count(each.text) * share))
            runs = shortened(each, target, model, self.encoder, self.rounds, self._stays)
            if last is None or (last.document, last.stop) != (each.document, each.start):
                runs[:1] = [replace(first, gap=GAP) for first in runs[:1]]
            yield from runs
            last = each

    def _stays(self, word: str) -> bool:
        found = word.strip().casefold().replace("’", "'")
        return self.negations and (found in NEGATIONS or found.endswith("n't"))

    def _summaries(self, taken: Seq[Passage], model: TextModel, share: float) -> Iterator[Passage]:
        for text in together(taken, model, self.chunk):
            size = max(1, int(model.count(text) * share))
            ask = ASK.format(words=max(1, round(size * WORDS)))
            if note := note_of(model, text, ask, size):
                yield note


def shortened(
    passage: Passage, target: int, model: TextModel, encoder: str, rounds: int = 1,
    stays: Callable[[str], bool] = lambda word: False,
) -> list[Passage]:  # fmt: skip
    """The runs of a passage that are left without the words that change its vector least.

    Args:
        passage: of a document.
        target: most tokens of what is left, where the words that may go are enough for it.
        model: that counts tokens.
        encoder: its folder.
        rounds: how often the words that are left are scored.
        stays: whether a word may not go.
    """
    words = [match.span() for match in _WORD.finditer(passage.text) if not stays(match[0])]
    gone: set[Span] = set()
    count = model.count(passage.text)
    for step in [count - (count - target) * n // rounds for n in range(1, rounds + 1)]:
        if count <= step:
            continue
        for word in _cheapest(passage.text, words, gone, encoder):
            gone.add(word)
            count = model.count(_without(passage.text, gone))
            if count <= step:
                break
    return [
        Passage(passage.text[low:high], passage.document, passage.start + low,
                passage.start + high, "")
        for low, high in _kept(len(passage.text), gone)
    ]  # fmt: skip


def _cheapest(text: str, words: Seq[Span], gone: set[Span], encoder: str) -> list[Span]:
    """Words that are left, the one of least delta first."""
    left = [word for word in words if word not in gone]
    vectors = vectors_of([text, *(_without(text, gone | {word}) for word in left)], encoder)
    return [left[n] for n in (1 - vectors[1:] @ vectors[0]).argsort(kind="stable").tolist()]


def _without(text: str, gone: set[Span]) -> str:
    return "".join(text[low:high] for low, high in _kept(len(text), gone))


def _kept(length: int, gone: set[Span]) -> Iterator[Span]:
    """What is left of so many characters, in as few runs as it takes."""
    start = 0
    for low, high in sorted(gone):
        if low > start:
            yield start, low
        start = high
    if start < length:
        yield start, length


def _fitting(runs: list[Passage], model: TextModel, budget: int) -> list[Passage]:
    """Runs without the last ones, where these are beyond the budget."""
    spans = model.spans(joined(runs))
    if len(spans) > budget + NEAR:
        end = spans[budget + NEAR][0]
        del runs[sum(start < end for start, _ in places(runs)) :]
    while runs and (over := model.count(joined(runs)) - budget) > 0:
        last = runs.pop()
        if (size := model.count(last.text) - over) > 0:
            runs.append(cut(model, last, size))
    return runs


def _side_by_side(found: Seq[Passage]) -> tuple[Passage, ...]:
    return tuple(sorted(found, key=lambda each: (each.document or 0, each.start)))


__all__ = ["TCRA", "shortened"]
