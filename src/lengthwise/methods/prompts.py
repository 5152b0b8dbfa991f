"""What a prompting method is given, and what it gives back.

A prompting method turns documents and a question into the text that is read. It sees a model as
text alone, through a `TextModel`, so that it runs before any, ours or one behind an API. One that
looks at probabilities asks for a `LogitModel` with `logits_of`; one that looks at attention, for an
`AttentionModel` with `attention_of`; one that writes token by token, for a `TokenModel` with
`steps_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence as Seq
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol, runtime_checkable

from torch import Tensor

from lengthwise.errors import Refused

# Between documents, and between passages that do not follow one another in theirs.
GAP = "\n\n"
# How often a budget is filled up with more passages.
ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Passage:
    """A run of text that is read.

    document: number of the document that it stands in; None where a model wrote it.
    start, stop: characters of that document, half open.
    gap: what is read between it and an earlier passage of its document that it does not follow.
    """

    text: str
    document: int | None = None
    start: int = 0
    stop: int = 0
    gap: str = GAP


Arrange = Callable[[Seq[Passage]], tuple[Passage, ...]]


@dataclass(frozen=True, slots=True)
class PromptText:
    """What is read: passages in the order in which they are read, and then the question.

    choices: the passages among which they were chosen; empty where nothing was.
    notes: what a user has to know of them, one sentence each.
    """

    passages: tuple[Passage, ...]
    question: str
    choices: tuple[Passage, ...] = field(default=(), compare=False, repr=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def text(self) -> str:
        """The passages in one text."""
        return joined(self.passages)


class TextModel(Protocol):
    """A model as text goes in and out of it. What it reads on the way is counted."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def trained_length(self) -> int:
        """Tokens that it was trained to read."""

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a text stands in it, in characters, half open."""

    def count(self, text: str) -> int:
        """Tokens of a text."""

    def write(
        self, text: str, question: str, max_new_tokens: int,
        stream: Callable[[str], None] | None = None,
    ) -> str:  # fmt: skip
        """Its greedy answer to a question about a text, or to one alone where the text is empty.
        `stream` gets each piece of it as it comes."""


@runtime_checkable
class LogitModel(TextModel, Protocol):
    """A model whose probabilities can be looked at."""

    def foretell(self, text: str, question: str, tokens: int, plain: bool = False) -> Tensor:
        """Log probabilities `[tokens, vocab]` of its answer's first tokens, which are greedy; of
        what goes on behind text and question where it is `plain`, without a template."""

    def losses(self, text: str) -> Tensor:
        """Loss of each token of a text in nats, `[tokens]`; the first one's is 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Regard:
    """What the tokens of a question give, as probabilities of one layer, mean over its heads.

    text: to each token of the text before it, float32 `[question, text]`.
    question: to the question itself, all in all, float32 `[question]`.
    """

    text: Tensor
    question: Tensor


@runtime_checkable
class AttentionModel(TextModel, Protocol):
    """A model whose attention can be looked at."""

    def regard(self, text: str, question: str, depth: float = 1.0) -> Regard:
        """What a question behind a text attends to, in the deepest layer that sees all of it within
        a share of the layers. Columns are those of `spans(text)`; rows are what stands behind the
        text, the template's included."""


class Steps(Protocol):
    """A text that is being written, in several ways at once."""

    def after(self, given: Seq[Seq[int]]) -> Tensor:
        """Log probabilities `[given, vocab]` of the token behind each of some beginnings, which
        begin themselves as those of an earlier call did, or are short."""


@runtime_checkable
class TokenModel(TextModel, Protocol):
    """A model that can be asked for one token after another."""

    def ids(self, text: str) -> list[int]:
        """The tokens of `spans(text)`."""

    def begin(self, question: str, cue: str) -> Steps:
        """Its answer to a question alone, which begins with a cue."""


def logits_of(model: TextModel, method: str) -> LogitModel:
    """The model, for a method that needs its probabilities.

    Args:
        model: any.
        method: its name.

    Raises:
        Refused: for a model that gives text alone.
    """
    if not isinstance(model, LogitModel):
        raise _refusal(model, f"{method} looks at the probabilities of a model")
    return model


def attention_of(model: TextModel, method: str) -> AttentionModel:
    """The model, for a method that needs its attention.

    Args:
        model: any.
        method: its name.

    Raises:
        Refused: for a model that does not show it.
    """
    if not isinstance(model, AttentionModel):
        raise _refusal(model, f"{method} looks at the attention of a model")
    return model


def steps_of(model: TextModel, method: str) -> TokenModel:
    """The model, for a method that has it write token by token.

    Args:
        model: any.
        method: its name.

    Raises:
        Refused: for a model that gives text alone.
    """
    if not isinstance(model, TokenModel):
        raise _refusal(model, f"{method} chooses each token that a model writes")
    return model


def _refusal(model: TextModel, needs: str) -> Refused:
    return Refused(
        f"{needs}, and {model.name} does not offer that",
        "use a method that needs text alone, such as bm25, or a model that runs here",
    )


def whole(documents: Seq[str]) -> tuple[Passage, ...]:
    """All of the documents, in their order."""
    return tuple(Passage(text, n, 0, len(text)) for n, text in enumerate(documents))


def joined(passages: Iterable[Passage]) -> str:
    """Passages in one text: those that follow one another as they stand, others apart."""
    parts: list[str] = []
    last: Passage | None = None
    for each in passages:
        if last is not None and not _follows(last, each):
            near = last.document == each.document and each.document is not None
            parts.append(each.gap if near and last.stop < each.start else GAP)
        parts.append(each.text)
        last = each
    return "".join(parts)


def places(passages: Iterable[Passage]) -> list[tuple[int, int]]:
    """Where each of some passages stands in their joined text, in characters, half open.

    Args:
        passages: as `joined` is given them.
    """
    found: list[tuple[int, int]] = []
    at, last = 0, None
    for each in passages:
        if last is not None:
            at += len(joined((last, each))) - len(last.text) - len(each.text)
        found.append((at, at + len(each.text)))
        at, last = found[-1][1], each
    return found


def in_order(passages: Iterable[Passage]) -> tuple[Passage, ...]:
    """Passages as they stand in their documents; those that follow one another become one.

    What a model wrote comes last.
    """
    found: list[Passage] = []
    for each in sorted(passages, key=lambda p: (p.document is None, p.document or 0, p.start)):
        last = found[-1] if found else None
        if last is not None and _follows(last, each):
            text = last.text + each.text
            found[-1] = Passage(text, each.document, last.start, each.stop, last.gap)
        else:
            found.append(each)
    return tuple(found)


def _follows(last: Passage, each: Passage) -> bool:
    """Whether a passage stands right behind another in the same document."""
    here = last.document is not None and last.document == each.document
    return here and last.stop == each.start


def within(
    model: TextModel, ranked: Seq[Passage], budget: int, arrange: Arrange = in_order
) -> tuple[Passage, ...]:
    """The best passages that fit a budget together.

    Args:
        model: that counts tokens.
        ranked: the best one first.
        budget: tokens of the joined text. A best passage that has more by itself is cut.
        arrange: puts those that fit, the best one first, in the order in which they are read; by
            default that of the documents.
    """
    # Each is counted once, whichever round asks.
    size = cache(lambda rank: model.count(ranked[rank].text))
    kept: list[int] = []
    left, rest = budget, list(range(len(ranked)))
    # Side by side passages may have fewer tokens than one by one, which leaves room for more.
    for _ in range(ROUNDS):
        taken, rest = _fill(rest, size, left)
        if not taken:
            break
        kept = sorted(kept + taken)
        left = budget - model.count(joined(arrange([ranked[n] for n in kept])))
    if not kept and ranked:
        return (cut(model, ranked[0], budget),)
    # And they may have more, for what stands between them.
    while len(kept) > 1 and left < 0:
        while left < 0 and len(kept) > 1:
            left += max(1, size(kept.pop()))
        left = budget - model.count(joined(arrange([ranked[n] for n in kept])))
    return arrange([ranked[n] for n in kept])


def _fill(ranks: Seq[int], size: Callable[[int], int], left: int) -> tuple[list[int], list[int]]:
    """The best ranks that fit what is left, one by one, and those that are not taken."""
    taken: list[int] = []
    rest: list[int] = []
    for rank in ranks:
        if left > 0 and size(rank) <= left:
            taken.append(rank)
            left -= size(rank)
        else:
            rest.append(rank)
    return taken, rest


def cut(model: TextModel, passage: Passage, budget: int) -> Passage:
    """The beginning of a passage, of `budget` tokens at most.

    Args:
        model: that counts tokens.
        passage: one that stands in a document.
        budget: at least 1.
    """
    spans = model.spans(passage.text)
    end = spans[budget - 1][1] if budget < len(spans) else len(passage.text)
    # A cut within a word may make other tokens, one more of them.
    while end > 1 and model.count(passage.text[:end]) > budget:
        end -= 1
    text = passage.text[:end]
    return Passage(text, passage.document, passage.start, passage.start + end, passage.gap)


class Splitter(Protocol):
    """Cuts a text at its sentences, say."""

    def __call__(self, text: str) -> list[str]:
        """Pieces that joined are the text."""


def pieces(documents: Seq[str], model: TextModel, size: int, split: Splitter) -> Iterator[Passage]:
    """Documents in passages of at most `size` tokens, which joined are the documents.

    Args:
        documents: as they were given.
        model: that counts tokens.
        size: at least 1. A sentence that has more is cut where tokens end. A character of more is a
            passage of its own.
        split: where a text may be cut, as pieces that joined are the text.
    """
    for number, document in enumerate(documents):
        start, held, text = 0, 0, ""
        for unit, count in _units(document, model, size, split):
            if text and held + count > size:
                yield Passage(text, number, start, start + len(text))
                start, held, text = start + len(text), 0, ""
            text, held = text + unit, held + count
        if text:
            yield Passage(text, number, start, start + len(text))


def _units(
    document: str, model: TextModel, size: int, split: Splitter
) -> Iterator[tuple[str, int]]:
    """Sentences with their tokens; one of more than `size` comes in parts."""
    for sentence in split(document):
        spans = model.spans(sentence)
        start = first = 0
        while len(spans) - first > size:
            stop = _whole(spans, first, first + size)
            yield sentence[start : spans[stop - 1][1]], stop - first
            start, first = spans[stop - 1][1], stop
        if start < len(sentence):
            yield sentence[start:], len(spans) - first


def _whole(spans: Seq[tuple[int, int]], first: int, stop: int) -> int:
    """The nearest token to `stop`, behind `first`, that does not begin within a character."""
    back = stop
    while back > first and back < len(spans) and spans[back][0] < spans[back - 1][1]:
        back -= 1
    if back > first:
        return back
    while stop < len(spans) and spans[stop][0] < spans[stop - 1][1]:
        stop += 1
    return stop


__all__ = [
    "GAP", "Arrange", "AttentionModel", "LogitModel", "Passage", "PromptText", "Regard", "Splitter",
    "Steps", "TextModel", "TokenModel", "attention_of", "cut", "in_order", "joined", "logits_of",
    "pieces", "places", "steps_of", "whole", "within",
]  # fmt: skip
