"""What a way to write questions and answers is, and which there are: `lengthwise.answers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from lengthwise._utils.papers import Papers
from lengthwise._utils.registry import Registry
from lengthwise.methods.options import way_of
from lengthwise.sequences.builders.base import Described, make_way
from lengthwise.sequences.errors import SequenceError

if TYPE_CHECKING:
    # It imports torch, which nobody should wait for who asks what there is.
    from lengthwise.methods.prompts import PromptText, TextModel

Pair = Mapping[str, str]
"""A record of a file of pairs: the texts that a method asks for, by the names it has for them."""


DOCUMENT = "document"
"""The text of a pair that is asked about. One may be given for all pairs that have none."""


class Chooser(Protocol):
    """What says what is read of documents before a question: any method of prompting/."""

    def write_prompt(self, documents: Seq[str], question: str, model: TextModel) -> PromptText:
        """As `methods.base.Method.write_prompt` has it.

        Args:
            documents: texts, at least one.
            question: as it was asked.
            model: that counts tokens.
        """
        ...


@dataclass(frozen=True, slots=True)
class Example:
    """What is trained on.

    begin: a special token before the answer, "" for none. chooser: what is read of a document
    before the question; None is the question alone. document: None is the one of all pairs.
    """

    question: str
    answer: str
    begin: str = ""
    document: str | None = None
    chooser: Chooser | None = None


class AnswerMethod(Described, Protocol):
    """One way to make examples of pairs. Its dataclass fields are its options.

    paper: what it rests on: a Paper, a tuple of them, or None without one. fields: the texts that
    a pair has. optional: those of them that it may lack. tokens: special ones that answers may
    begin with. An example of more than `max_length` tokens is left out.
    """

    paper: ClassVar[Papers]

    @property
    def fields(self) -> tuple[str, ...]: ...

    @property
    def optional(self) -> tuple[str, ...]: ...

    def examples(self, pairs: Seq[Pair], seed: int) -> list[list[Example] | str]:
        """The examples of each pair, or why there are none.

        Args:
            pairs: all of them.
            seed: of what is drawn.
        """
        ...


def _check(name: str, found: object) -> type[AnswerMethod]:
    return way_of(name, found, (Described, AnswerMethod), "way to write answers")


ANSWERS: Registry[type[AnswerMethod]] = Registry(
    "lengthwise.answers", "way to write answers", _check, SequenceError
)


def make_answers(
    method: str, settings: Mapping[str, str], max_length: int | None = None
) -> AnswerMethod:
    """The way to write answers called `method`, as `make_way` makes it.

    Args:
        method: its name.
        settings: options by name.
        max_length: tokens of a row; None is the method's default.
    """
    return make_way(ANSWERS, method, settings, max_length)


__all__ = ["ANSWERS", "DOCUMENT", "AnswerMethod", "Chooser", "Example", "Pair", "make_answers"]
