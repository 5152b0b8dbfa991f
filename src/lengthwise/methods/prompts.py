"""What a prompting method is given, and what it gives back.

A prompting method turns documents and a question into the text that is read. It sees a model as
text alone, through a `TextModel`, so that it runs before any, ours or one behind an API. One that
looks at probabilities asks for a `LogitModel` with `logits_of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence as Seq
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from lengthwise.errors import Refused

# Between passages that do not follow one another in their document.
GAP = "\n\n"


@dataclass(frozen=True, slots=True)
class Passage:
    """A run of text that is read.

    document: number of the document that it stands in; None where a model wrote it.
    start, stop: characters of that document, half open.
    """

    text: str
    document: int | None = None
    start: int = 0
    stop: int = 0


@dataclass(frozen=True, slots=True)
class PromptText:
    """What is read: passages in the order in which they are read, and then the question."""

    passages: tuple[Passage, ...]
    question: str

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

    def write(self, text: str, question: str, max_new_tokens: int) -> str:
        """Its greedy answer to a question about a text."""


@runtime_checkable
class LogitModel(TextModel, Protocol):
    """A model whose probabilities can be looked at."""

    def foretell(self, text: str, question: str, tokens: int, plain: bool = False) -> Tensor:
        """Log probabilities `[tokens, vocab]` of its answer's first tokens, which are greedy; of
        what goes on behind text and question where it is `plain`, without a template."""

    def losses(self, text: str) -> Tensor:
        """Loss of each token of a text in nats, `[tokens]`; the first one's is 0."""


def logits_of(model: TextModel, method: str) -> LogitModel:
    """The model, for a method that needs its probabilities.

    Args:
        model: any.
        method: its name.

    Raises:
        Refused: for a model that gives text alone.
    """
    if not isinstance(model, LogitModel):
        raise Refused(
            f"{method} looks at the probabilities of a model, and {model.name} gives text alone",
            "use a method that needs text alone, such as bm25, or a model that runs here",
        )
    return model


def whole(documents: Seq[str]) -> tuple[Passage, ...]:
    """All of the documents, in their order."""
    return tuple(Passage(text, n, 0, len(text)) for n, text in enumerate(documents))


def joined(passages: Iterable[Passage]) -> str:
    """Passages in one text: those that follow one another as they stand, others apart by GAP."""
    parts: list[str] = []
    last: Passage | None = None
    for each in passages:
        follows = last is not None and last.document is not None and (
            (last.document, last.stop) == (each.document, each.start)
        )  # fmt: skip
        parts += [each.text] if last is None or follows else [GAP, each.text]
        last = each
    return "".join(parts)


def in_order(passages: Iterable[Passage]) -> tuple[Passage, ...]:
    """Passages as they stand in their documents; those that follow one another become one."""
    found: list[Passage] = []
    for each in sorted(passages, key=lambda p: (p.document or 0, p.start)):
        last = found[-1] if found else None
        if last is not None and (last.document, last.stop) == (each.document, each.start):
            found[-1] = Passage(last.text + each.text, each.document, last.start, each.stop)
        else:
            found.append(each)
    return tuple(found)


def within(model: TextModel, ranked: Seq[Passage], budget: int) -> tuple[Passage, ...]:
    """The best passages that fit a budget together, in the order of their documents.

    Args:
        model: that counts tokens.
        ranked: the best one first.
        budget: tokens of the joined text. A best passage that has more by itself is cut.
    """
    kept: list[Passage] = []
    left = budget
    for each in ranked:
        size = model.count(each.text)
        if size <= left:
            kept.append(each)
            left -= size
    if not kept and ranked:
        return (cut(model, ranked[0], budget),)
    # Passages may have more tokens joined than one by one, for what stands between them.
    while len(kept) > 1 and model.count(joined(in_order(kept))) > budget:
        kept.pop()
    return in_order(kept)


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
    return Passage(text, passage.document, passage.start, passage.start + end)


class Splitter(Protocol):
    """Cuts a text at its sentences, say."""

    def __call__(self, text: str) -> list[str]:
        """Pieces that joined are the text."""


def pieces(documents: Seq[str], model: TextModel, size: int, split: Splitter) -> Iterator[Passage]:
    """Documents in passages of at most `size` tokens, which joined are the documents.

    Args:
        documents: as they were given.
        model: that counts tokens.
        size: at least 1. A sentence that has more is cut where tokens end.
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
        start = 0
        for last in range(size - 1, len(spans) - 1, size):
            end = spans[last][1]
            # Several tokens may be parts of one character.
            if end > start:
                yield sentence[start:end], size
                start = end
        if start < len(sentence):
            yield sentence[start:], len(spans) % size or size
        elif not spans:
            yield sentence, 0


__all__ = [
    "GAP", "LogitModel", "Passage", "PromptText", "Splitter", "TextModel", "cut", "in_order",
    "joined", "logits_of", "pieces", "whole", "within",
]  # fmt: skip
