"""How a question joins what a session has read, as token ids: the ids that one call would have.

A text is asked about as `lengthwise run QUESTION -d DOCUMENT` asks: document and question in one
message of the chat template, or one behind the other without a template. What all such prompts
begin with is read beforehand. It is found by encoding the end of a few of them, because a tokenizer
may join the end of a document with what follows it. It is no more than a good guess: the ids of
each prompt are compared with those that were read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence as Seq
from dataclasses import dataclass, replace
from operator import index
from os.path import commonprefix
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerBase

from lengthwise.api.held_model import HeldModel
from lengthwise.api.prompts import Prompt, Shield, given_ids, require_text
from lengthwise.api.turns import has_template, turns_behind
from lengthwise.documents.document import Document
from lengthwise.errors import LengthwiseError
from lengthwise.tokenization.templates import around_message

# Beginnings of questions, and of texts that are appended, which tokenizers join differently.
_QUESTIONS = ("A", "1", "\n")
_MORE = ("A", "1", "\n", " a")
# Characters of a text with whose end these are tried, and tokens before it that have to be those of
# the whole text: so far from the end it is taken not to matter what follows.
_END = 2048
_SETTLED = 64


class Source(ABC):
    """What a session has read, as it was given.

    trained: how its entries were trained, where they were not read; plain data. what: it is called.
    """

    what: ClassVar[str] = "this"
    trained: Mapping[str, Any] | None = None

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

    def edit(self, model: HeldModel, span: tuple[int, int], text: Any) -> Source:
        """The same with a part of it replaced.

        Args:
            model: whose tokenizer is used.
            span: start and stop of what is replaced.
            text: what comes in its place.

        Raises:
            LengthwiseError: for what cannot be edited, and for a part that is none.
        """
        raise LengthwiseError(
            f"a session that has read {self.what} is not edited; read what is new, or keep what "
            "changes in a text of its own"
        )

    @abstractmethod
    def data(self) -> dict[str, Any]:
        """What `source_from` makes the same of again."""


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
        whole = self.ask(model, _QUESTIONS[0], None)
        end, asked, more = replace(self, text=self.text[-_END:])._changing(model)
        if end != whole and len(_common([end[::-1], whole[::-1]])) < more + _SETTLED:
            _, asked, more = self._changing(model)
        return whole[: len(whole) - asked], len(whole) - more

    def _changing(self, model: HeldModel) -> tuple[list[int], int, int]:
        """Ids with a question behind; how many of the last ones others change, and more text."""
        ids = [self.ask(model, question, None) for question in _QUESTIONS]
        longer = (replace(self, text=self.text + more) for more in _MORE)
        stable = _common([*ids, *(each.ask(model, _QUESTIONS[0], None) for each in longer)])
        return ids[0], len(ids[0]) - len(_common(ids)), len(ids[0]) - len(stable)

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

    what: ClassVar[str] = "messages"
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


@dataclass(frozen=True)
class TrainedSource(Source):
    """A cartridge: ids whose entries were trained, and what was said behind them.

    Nothing of it can be read again. special: see `Model.encode`.
    """

    what: ClassVar[str] = "a cartridge"
    ids: tuple[int, ...]
    trained: Mapping[str, Any]
    messages: tuple[Mapping[str, Any], ...] = ()
    special: str | None = None

    def ask(self, model: HeldModel, question: Prompt, special: str | None) -> list[int]:
        if isinstance(question, str):
            said = [*self.messages, {"role": "user", "content": question}]
            return [*self.ids, *turns_behind(model, said, special or self.special)]
        if self.messages:
            raise LengthwiseError(
                f"a question of type {type(question).__name__}: behind messages a cartridge takes "
                "a string"
            )
        return [*self.ids, *model.encode(given_ids(question))]

    def prefix(self, model: HeldModel) -> tuple[list[int], int]:
        if not self.messages:
            return list(self.ids), len(self.ids)
        found = _common(self.ask(model, question, None) for question in _QUESTIONS)
        return found, len(found)

    def more(self, model: HeldModel, text: Any) -> Source:
        new = [text] if isinstance(text, Mapping) else text
        if isinstance(new, str) or not isinstance(new, Iterable) or not has_template(model):
            raise LengthwiseError(
                "append takes a message, or a list of them, behind a cartridge, and a model with a "
                "chat template"
            )
        return replace(self, messages=(*self.messages, *new))

    def data(self) -> dict[str, Any]:
        said = [dict(each) for each in self.messages]
        trained = dict(self.trained)
        return {"trained": trained, "count": len(self.ids), "messages": said,
                "special": self.special}  # fmt: skip


@dataclass(frozen=True)
class ApartSource(Source):
    """Documents that were read apart, or as soft embeddings. Pieces are encoded by themselves, so
    that no document has a say in the ids of another one, or of a question.

    ids: all that was read, stand-ins of embeddings among them. texts: whether a question is text
    within the message that began before the documents; otherwise it is ids, or a text, with which
    the prompt goes on. trained: what encoded soft embeddings.
    """

    what: ClassVar[str] = "documents apart, or as soft embeddings,"
    ids: tuple[int, ...]
    texts: bool
    special: str | None = None
    trained: Mapping[str, Any] | None = None

    def ask(self, model: HeldModel, question: Prompt, special: str | None) -> list[int]:
        special = special or self.special
        if not self.texts:
            return model.encode([*self.ids, *_behind(model, question, special)])
        if not isinstance(question, str):
            raise LengthwiseError(
                f"a question of type {type(question).__name__}: a session that has read texts "
                "takes a string"
            )
        assert model.tokenizer is not None
        return model.encode([
            *self.ids, *encode_piece(model.tokenizer, "", question, special),
            *encode_piece(model.tokenizer, around_message(model.tokenizer)[1], "", special),
        ])  # fmt: skip

    def prefix(self, model: HeldModel) -> tuple[list[int], int]:
        return list(self.ids), len(self.ids)

    def more(self, model: HeldModel, text: Any) -> Source:
        if self.texts and not isinstance(text, (str, Document)):
            raise LengthwiseError("append takes a text that is not empty, after texts")
        if self.texts and model.tokenizer is not None:
            new = encode_piece(model.tokenizer, "", str(text), self.special)
        else:
            new = _behind(model, text, self.special)
        if not new:
            raise LengthwiseError("append was given nothing; give a text or token ids")
        return replace(self, ids=(*self.ids, *new))

    def data(self) -> dict[str, Any]:
        soft = {} if self.trained is None else {"soft": dict(self.trained)}
        return {"texts": self.texts, "special": self.special, **soft}


def encode_piece(
    tokenizer: PreTrainedTokenizerBase, template: str, text: str, special: str | None
) -> list[int]:
    """Ids of a piece of a message, by itself.

    Args:
        tokenizer: the model's.
        template: what stands before the text, as the chat template writes it.
        text: in which special tokens are text, unless `special` is "tokens".
        special: see `Model.encode`.
    """
    require_text("a document or question", text)
    shield = Shield(tokenizer)
    return shield.encode(template + (text if special == "tokens" else shield.text(text)))


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
