"""A recipe as an object: the methods that run together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lengthwise.methods.base import Method

FULL_NAME = "full"


@dataclass(frozen=True)
class Recipe:
    """Methods that run together; none of them is full attention.

    It prints as the shortest text that gives it back.
    """

    methods: tuple[Method, ...] = ()

    @property
    def reads_apart(self) -> bool:
        """Whether a method of it says where documents stand that are set apart."""
        return any(type(each).contexts is not Method.contexts for each in self.methods)

    @property
    def prompting(self) -> Method | None:
        """The method of it that writes the prompt."""
        return next(filter(_writes_prompts, self.methods), None)

    @property
    def after_prompting(self) -> Recipe:
        """What is left when the prompt is written: the other methods."""
        return Recipe(tuple(each for each in self.methods if not _writes_prompts(each)))

    def __str__(self) -> str:
        return " + ".join(map(str, self.methods)) or FULL_NAME


def _writes_prompts(method: Method) -> bool:
    return type(method).write_prompt is not Method.write_prompt


# A recipe as it may be given: its text, what `parse` made of it, or its methods.
RecipeLike = str | Recipe | Sequence[Method]


def is_one(given: object) -> bool:
    """Whether this is one recipe, and not a list of them: methods in a list are one.

    Args:
        given: as a user gave it.
    """
    several = isinstance(given, list | tuple) and bool(given)
    return not several or all(isinstance(each, Method) for each in given)  # type: ignore[attr-defined]


__all__ = ["FULL_NAME", "Recipe", "RecipeLike", "is_one"]
