"""How a question joins what a session has read, as token ids: the ids that one call would have.

A text is asked about as `lengthwise run QUESTION -d DOCUMENT` asks: document and question in one
message of the chat template, or one behind the other without a template. What all such prompts
begin with is read beforehand. It is found by encoding a few of them, because a tokenizer may join
the end of a document with what follows it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence as Seq
from dataclasses import dataclass
from operator import index
from os.path import commonprefix
from typing import Any

from lengthwise.api.held_model import HeldModel
from lengthwise.api.prompts import Prompt, Shield, given_ids
from lengthwise.documents.document import Document
from lengthwise.errors import LengthwiseError

# Beginnings of questions, and of texts that are appended, which tokenizers join differently.
_QUESTIONS = ("A", "1", "\n")
_MORE = ("A", "1", "\n", " a")


class Source(ABC):
    """What a session has read, as it was given."""

    @abstractmethod
    def ask(self, model: HeldModel, question: Prompt, special: str | None) -> list[int]:
        """Ids of the whole prompt with a question in its place.

        Args:
            model: whose tokenizer and template are used.
            question: what is asked.
            special: see `Model.encode`.

        Raises:
            LengthwiseError: for what is no question here.
        """

    @abstractmethod
    def prefix(self, model: HeldModel) -> tuple[list[int], int]:
        """What every prompt begins with, and how much of it stays whatever is appended.

        Args:
            model: whose tokenizer and template are used.
        """

    @abstractmethod
    def more(self, model: HeldModel, text: Any) -> Source:
        """The same with something appended.

        Args:
            model: whose tokenizer is used.
            text: what is appended.
        """

    @abstractmethod
    def edit(self, model: HeldModel, span: tuple[int, int], text: Any) -> Source:
        """The same with a part of it replaced.

        Args:
            model: whose tokenizer is used.
            span: start and stop of what is replaced.
            text: what comes in its place.
        """

    @abstractmethod
    def data(self) -> dict[str, Any]:
        """What `source_of` makes the same of again."""


@dataclass(frozen=True)
class TextSource(Source):
    """A document, or any text that is asked about. special: see `Model.encode`."""

    text: str
    special: str | None = None

    def ask(self, model: HeldModel, question: Prompt, special: str | None) -> list[int]:
        if not isinstance(question, str):
            raise LengthwiseError(
                f"a question of type {type(question).__name__}: a session that has read a text "
                "takes a string"
            )
        special = special or self.special
        tokenizer = model.tokenizer
        if getattr(tokenizer, "chat_template", None):
            content = f"{self.text}\n\n{question}"
            return model.encode([{"role": "user", "content": content}], special)
        assert tokenizer is not None
        if special == "tokens":
            return model.encode(f"{self.text}\n\n{question}", special)
        shield = Shield(tokenizer)
        asked = question if special is None else shield.text(question)
        return model.encode(shield.encode(f"{shield.text(self.text)}\n\n{asked}", True))

    def prefix(self, model: HeldModel) -> tuple[list[int], int]:
        found = _common(self.ask(model, question, None) for question in _QUESTIONS)
        longer = (TextSource(self.text + more, self.special) for more in _MORE)
        stable = _common([found, *(each.ask(model, "A", None) for each in longer)])
        return found, len(stable)

    def more(self, model: HeldModel, text: Any) -> Source:
        if not isinstance(text, (str, Document)) or not str(text):
            raise LengthwiseError("append takes a text that is not empty, after a text")
        return TextSource(self.text + str(text), self.special)

    def edit(self, model: HeldModel, span: tuple[int, int], text: Any) -> Source:
        if not isinstance(text, (str, Document)):
            raise LengthwiseError("edit takes a text, empty to delete, where a text was read")
        start, stop = _span(span, len(self.text), "characters of the text")
        new = self.text[:start] + str(text) + self.text[stop:]
        if not new.strip():
            raise LengthwiseError("this edit leaves an empty document; read another one instead")
        return TextSource(new, self.special)

    def data(self) -> dict[str, Any]:
        return {"text": self.text, "special": self.special}


@dataclass(frozen=True)
class ChatSource(Source):
    """Chat messages; what is asked is the next one of the user's."""

    messages: tuple[Mapping[str, Any], ...]
    special: str | None = None

    def ask(self, model: HeldModel, question: Prompt, special: str | None) -> list[int]:
        if not isinstance(question, str):
            raise LengthwiseError(
                f"a question of type {type(question).__name__}: a session that has read messages "
                "takes a string, the next message of the user's"
            )
        said = [*self.messages, {"role": "user", "content": question}]
        return model.encode(said, special or self.special)

    def prefix(self, model: HeldModel) -> tuple[list[int], int]:
        found = _common(self.ask(model, question, None) for question in _QUESTIONS)
        return found, len(found)

    def more(self, model: HeldModel, text: Any) -> Source:
        new = [text] if isinstance(text, Mapping) else text
        if isinstance(new, str) or not isinstance(new, Iterable):
            raise LengthwiseError("append takes a message, or a list of them, after messages")
        return ChatSource((*self.messages, *new), self.special)

    def edit(self, model: HeldModel, span: tuple[int, int], text: Any) -> Source:
        raise LengthwiseError(
            "a session that has read messages is not edited; read the new messages, or keep what "
            "changes in a text of its own"
        )

    def data(self) -> dict[str, Any]:
        return {"messages": [dict(each) for each in self.messages], "special": self.special}


@dataclass(frozen=True)
class IdsSource(Source):
    """Token ids, with which the prompt simply goes on: questions are ids, or texts behind them."""

    ids: tuple[int, ...]

    def ask(self, model: HeldModel, question: Prompt, special: str | None) -> list[int]:
        return model.encode([*self.ids, *_behind(model, question, special)])

    def prefix(self, model: HeldModel) -> tuple[list[int], int]:
        return model.encode(list(self.ids)), len(self.ids)

    def more(self, model: HeldModel, text: Any) -> Source:
        new = _behind(model, text, None)
        if not new:
            raise LengthwiseError("append was given nothing; give a text or token ids")
        return IdsSource((*self.ids, *new))

    def edit(self, model: HeldModel, span: tuple[int, int], text: Any) -> Source:
        start, stop = _span(span, len(self.ids), "tokens that were read")
        empty = not isinstance(text, Document) and hasattr(text, "__len__") and not len(text)
        new = [] if empty else _behind(model, text, None)
        left = (*self.ids[:start], *new, *self.ids[stop:])
        if not left:
            raise LengthwiseError("this edit leaves no token; read something else instead")
        return IdsSource(left)

    def data(self) -> dict[str, Any]:
        return {"ids": list(self.ids)}


def source_of(model: HeldModel, prompt: Prompt, special: str | None = None) -> Source:
    """What was given to be read.

    Args:
        model: that will read it.
        prompt: see `Model.encode`.
        special: see `Model.encode`.

    Raises:
        LengthwiseError: for what is no prompt, and for an empty one.
    """
    if isinstance(prompt, (str, Document)):
        if not str(prompt).strip():
            raise LengthwiseError("the document is empty: there is nothing to read in it")
        if model.tokenizer is None:
            raise LengthwiseError("this model was wrapped without a tokenizer; give token ids")
        return TextSource(str(prompt), special)
    if isinstance(prompt, (list, tuple)) and prompt and isinstance(prompt[0], Mapping):
        return ChatSource(tuple(prompt), special)
    return IdsSource(tuple(model.encode(prompt, special)))


def source_from(data: Mapping[str, Any], tokens: Seq[int]) -> Source:
    """The source that `Source.data` was taken of.

    Args:
        data: plain data out of a file.
        tokens: those that were read.
    """
    special = data.get("special")
    if "text" in data:
        return TextSource(str(data["text"]), special)
    if "messages" in data:
        return ChatSource(tuple(dict(each) for each in data["messages"]), special)
    return IdsSource(tuple(tokens))


def behind(model: HeldModel, given: Any) -> list[int]:
    """Ids of what stands behind a prompt: ids, or a text without a beginning of its own.

    Args:
        model: whose tokenizer is used.
        given: a string or token ids.

    Raises:
        LengthwiseError: for nothing at all, and for ids outside the vocabulary.
    """
    return model.encode(_behind(model, given, None))


def _behind(model: HeldModel, given: Any, special: str | None) -> list[int]:
    if not isinstance(given, (str, Document)):
        return given_ids(given)
    if model.tokenizer is None:
        raise LengthwiseError("this model was wrapped without a tokenizer; give token ids")
    shield = Shield(model.tokenizer)
    text = str(given)
    return shield.encode(shield.text(text) if special == "text" else text)


def _span(span: Any, length: int, unit: str) -> tuple[int, int]:
    """Start and stop inside what was read; raises LengthwiseError for others."""
    try:
        start, stop = (index(each) for each in span)
    except (TypeError, ValueError):
        raise LengthwiseError(f"span={span!r}: give (start, stop), counted in {unit}") from None
    if not 0 <= start <= stop <= length:
        raise LengthwiseError(
            f"span=({start}, {stop}): give 0 <= start <= stop <= {length:,}, counted in {unit}"
        )
    return start, stop


def _common(rows: Iterable[Seq[int]]) -> list[int]:
    return list(commonprefix([list(row) for row in rows]))
