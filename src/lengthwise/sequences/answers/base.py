"""What a way to write questions and answers is, and which there are: `lengthwise.answers`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast

from lengthwise._utils.papers import Papers
from lengthwise._utils.registry import Registry
from lengthwise._utils.suggestions import hint
from lengthwise.methods.options import options
from lengthwise.sequences.errors import SequenceError

Pair = Mapping[str, str]
"""A record of a file of pairs: the texts that a method asks for, by the names it has for them."""


@dataclass(frozen=True, slots=True)
class Example:
    """What is trained on. begin: a special token before the answer, "" for none."""

    question: str
    answer: str
    begin: str = ""


class AnswerMethod(Protocol):
    """One way to make examples of pairs. Its dataclass fields are its options.

    paper: what it rests on: a Paper, a tuple of them, or None without one. fields: the texts that
    a pair has. document_mask, target_token: as a builder has them.
    """

    name: ClassVar[str]
    paper: ClassVar[Papers]
    fields: ClassVar[tuple[str, ...]]
    document_mask: ClassVar[bool]
    target_token: ClassVar[bool]

    @property
    def max_length(self) -> int:
        """Tokens of the longest row; an example that has more is left out."""
        ...

    @property
    def tokens(self) -> tuple[str, ...]:
        """Special tokens that answers may begin with."""
        ...

    def examples(self, pairs: Seq[Pair], seed: int) -> list[list[Example] | str]:
        """The examples of each pair, or why there are none.

        Args:
            pairs: all of them.
            seed: of what is drawn.
        """
        ...


_ASKED = ("name", "paper", "fields", "document_mask", "target_token", "tokens", "examples")


def _check(name: str, found: object) -> type[AnswerMethod]:
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise TypeError("it is no dataclass")
    lacks = [each for each in _ASKED if not hasattr(found, each)]
    if lacks:
        raise TypeError(f"its class has no {lacks[0]!r}, which every way to write answers has")
    if found.name != name:  # type: ignore[attr-defined]
        raise ValueError(f"its class is named {found.name!r}")  # type: ignore[attr-defined]
    options(found)
    return cast("type[AnswerMethod]", found)


ANSWERS: Registry[type[AnswerMethod]] = Registry(
    "lengthwise.answers", "way to write answers", _check, SequenceError
)


def make_answers(
    method: str, settings: Mapping[str, str], max_length: int | None = None
) -> AnswerMethod:
    """The way to write answers called `method`, with options as text.

    Args:
        method: its name.
        settings: options by name.
        max_length: tokens of a row; None is the method's default.

    Raises:
        SequenceError: for an unknown method or option.
        RecipeError: for a value that is not allowed.
    """
    kind = ANSWERS.get(method)
    if kind is None:
        raise SequenceError(f"there is no way to write answers {method!r}{hint(method, ANSWERS)}")
    known = {option.name: option for option in options(kind)}
    values: dict[str, object] = {}
    if max_length is not None:
        values["max_length"] = known["max_length"].check(max_length)
    for name, text in settings.items():
        if name not in known:
            raise SequenceError(f"{method} has no option {name!r}{hint(name, known)}")
        if name in values:
            raise SequenceError(f"--max-length and --set {name} are the same option: give one")
        values[name] = known[name].read(text)
    return kind(**values)


__all__ = ["ANSWERS", "AnswerMethod", "Example", "Pair", "make_answers"]
