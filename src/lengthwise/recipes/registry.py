"""Which methods there are: every entry point of the group `lengthwise.methods`, ours and others'.

Names, questions and papers are known without importing a method; one that is used is imported, and
no other. An entry point that cannot be loaded, or whose class breaks the contract, is listed with
its error and harms no other.
"""

from __future__ import annotations

import dataclasses
import re
from functools import cached_property
from typing import Any, cast

from lengthwise._utils.papers import Papers, papers_of
from lengthwise._utils.registry import OURS, Entry, Registry
from lengthwise._utils.suggestions import nearest
from lengthwise.errors import RecipeError
from lengthwise.methods import base
from lengthwise.methods.base import Method
from lengthwise.methods.options import options
from lengthwise.methods.slots import questions

GROUP = "lengthwise.methods"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Registered(Entry[type[Method]]):
    """A method by its name. cls, or error where it cannot be used: asking for them imports it."""

    @property
    def cls(self) -> type[Method] | None:
        return self.value

    @property
    def question(self) -> str | None:
        """Which question it answers; None where it cannot be used and does not say."""
        found = self._said("question")
        return str(found) if found is not None else None

    @property
    def paper(self) -> Papers:
        """What it rests on; None without a paper, and where it cannot be used and does not say."""
        found: Papers = self._said("paper")
        return found

    def _said(self, attribute: str) -> Any:
        # What the text does not say in the class itself, as where it is inherited, an import does.
        if attribute in self._text:
            return self._text[attribute]
        return getattr(self.cls, attribute, None)

    @cached_property
    def _text(self) -> dict[str, Any]:
        return self.declared(vars(base))


def _check(name: str, cls: object) -> type[Method]:
    if not (isinstance(cls, type) and issubclass(cls, Method) and dataclasses.is_dataclass(cls)):
        raise TypeError("it is not a dataclass that inherits lengthwise.methods.base.Method")
    for attribute in ("name", "question"):
        if not isinstance(getattr(cls, attribute, None), str):
            raise TypeError(f"its class attribute {attribute!r} is missing or no str")
    papers_of(getattr(cls, "paper", "missing"))
    if cls.question not in questions():
        known = ", ".join(questions())
        raise ValueError(f"there is no question {str(cls.question)!r}; known are {known}")
    if cls.name != name or not _NAME.fullmatch(name) or name == "full":
        raise ValueError(
            f"its class is named {cls.name!r} and its entry point {name!r}; both must be one word "
            "of small letters, digits and _, other than 'full'"
        )
    options(cls)
    cls()
    return cls


METHODS: Registry[type[Method]] = Registry(GROUP, "method", _check, RecipeError, Registered)


def registered() -> tuple[Registered, ...]:
    """Everything registered, ours first, then by package and name. `refresh` looks again."""
    return cast(tuple[Registered, ...], METHODS.entries())


def refresh() -> None:
    """Forgets what was found, after packages were installed or removed."""
    METHODS.refresh()


def methods() -> dict[str, type[Method]]:
    """The usable methods by name, ours first. Imports all of them."""
    return METHODS.usable()


def find(name: str) -> type[Method]:
    """The class of a method by its name. Imports it alone.

    Raises:
        RecipeError: where it is unknown (with the nearest name) or broken.
    """
    found = METHODS.get(name)
    if found is not None:
        return found
    if name == "full":
        raise RecipeError(
            "'full' is full attention, the recipe without any method: it has no options and "
            "nothing to describe"
        )
    raise RecipeError(f"unknown method {name!r}{nearest(name, ['full', *METHODS])}")


__all__ = [
    "GROUP", "METHODS", "OURS", "Registered", "find", "methods", "refresh", "registered",
]  # fmt: skip
