"""From text to a recipe, and from whatever else a recipe may be given as.

    recipe: item ('+' item)*        item: name ['(' [option '=' value (',' ...)*] ')']

A method is imported when its name is read, it alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from lengthwise._utils.suggestions import did_you_mean
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method
from lengthwise.methods.options import Option, options
from lengthwise.recipes.recipe import FULL_NAME, Recipe, RecipeLike, is_one
from lengthwise.recipes.registry import find

_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[+(),=])|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<word>[^\s,()=+"]+))"""
)
Made = TypeVar("Made")
# Inside a value a plus is part of a number, as in 1e+3.
_VALUE = re.compile(r"""\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<word>[^\s,()="]+))""")


def parse(text: str) -> Recipe:
    """Reads a recipe.

    Args:
        text: such as "yarn(factor=4) + lookup"; "full" is the recipe without methods.

    Raises:
        RecipeError: shows the place, what is allowed there and the nearest name.
    """
    return _Parser(text).recipe()


def parse_one(text: str, known: Mapping[str, type[Made]]) -> Made:
    """Reads one name with its options, of things that are no methods, such as a file's codec.

    Args:
        text: such as "cachegen(level=2)".
        known: classes by name, whose fields are options as a method's are.

    Raises:
        RecipeError: as in `parse`.
    """
    return _Parser(text).one(known)


def recipe_of(given: RecipeLike) -> Recipe:
    """A recipe in whichever way it was given.

    Args:
        given: its text, a Recipe, or a list of methods.

    Raises:
        RecipeError: for a text that cannot be parsed, and for anything else.
    """
    if isinstance(given, Recipe):
        return given
    return parse(given) if isinstance(given, str) else Recipe(_methods(given))


def recipes_of(given: RecipeLike | Sequence[RecipeLike]) -> list[Recipe]:
    """One recipe, or several, as a list.

    Args:
        given: one as for `recipe_of`, or a list of such.

    Raises:
        RecipeError: as in `recipe_of`.
    """
    if is_one(given):
        return [recipe_of(given)]  # type: ignore[arg-type]
    return [recipe_of(each) for each in given]  # type: ignore[union-attr, arg-type]


def _methods(given: object) -> tuple[Method, ...]:
    """Methods given as objects; raises RecipeError for anything else."""
    found = tuple(given) if isinstance(given, list | tuple) else (given,)
    wrong = next((each for each in found if not isinstance(each, Method)), None)
    if wrong is not None or not isinstance(given, list | tuple):
        raise RecipeError(
            f"a recipe of type {type(given).__name__} ({given!r}); give its text, as in "
            '"snapkv + lookup", or a list of methods'
        )
    return found


class _Parser:
    """recipe: item ('+' item)*; item: name ['(' [option '=' value (',' ...)*] ')']."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def recipe(self) -> Recipe:
        if not self.text.strip():
            raise RecipeError("the recipe is empty; full attention is written 'full'")
        found: list[Method] = []
        while True:
            method = self.item()
            if method is not None:
                found.append(method)
            mark, start = self.peek()
            if mark == "":
                return Recipe(tuple(found))
            if mark != "+":
                self.fail(f"expected '+' or the end, found {mark!r}", start)
            self.take()

    def one(self, known: Mapping[str, type[Made]]) -> Made:
        name, start = self.name("one of " + ", ".join(known))
        if name not in known:
            near = did_you_mean(name, known, ".")
            self.fail(f"there is no {name!r}{near} Allowed: {', '.join(known)}", start)
        values = self.arguments(known[name], name) if self.peek()[0] == "(" else {}
        mark, place = self.peek()
        if mark:
            self.fail(f"expected the end, found {mark!r}", place)
        try:
            return known[name](**values)
        except RecipeError as error:
            self.fail(str(error), start)

    def item(self) -> Method | None:
        """A method; None for `full`, which adds nothing."""
        name, start = self.name("the name of a method")
        if name == FULL_NAME:
            if self.peek()[0] == "(":
                self.fail("'full' has no options", self.peek()[1])
            return None
        try:
            cls = find(name)
        except RecipeError as error:
            self.fail(str(error), start)
        values = self.arguments(cls, cls.name) if self.peek()[0] == "(" else {}
        try:
            return cls(**values)
        except RecipeError as error:
            self.fail(str(error), start)

    def arguments(self, cls: type, name: str) -> dict[str, Any]:
        known = {each.name: each for each in options(cls)}
        found: dict[str, Any] = {}
        self.take()
        if self.peek()[0] == ")":
            self.take()
            return found
        while True:
            word, start = self.name(f"an option of {name} ({_list(known)})")
            each = known.get(word)
            mark, place = self.peek()
            if mark != "=" and each is None and known:
                first = next(iter(known))
                self.fail(f"options are given by name: {name}({first}={word})", start)
            if each is None:
                near = did_you_mean(word, known, ".")
                self.fail(f"{name} has no option {word!r}{near} Allowed: {_list(known)}", start)
            if word in found:
                self.fail(f"option {word!r} is given twice", start)
            if mark != "=":
                self.fail(f"expected '=' and {each.allowed} after {word!r}", place)
            self.take()
            found[word] = self.value(each)
            mark, place = self.peek()
            if mark not in (",", ")"):
                self.fail(
                    f"expected ',' or ')', found {mark!r}" if mark else "')' is missing", place
                )
            self.take()
            if mark == ")":
                return found

    def value(self, each: Option) -> Any:
        match = _VALUE.match(self.text, self.at)
        start = self.peek()[1]
        if match is None:
            self.fail(f"{each.name} needs a value: {each.allowed}", start)
        self.at = match.end()
        text = match["word"]
        if text is None:
            text = re.sub(r'\\(["\\])', r"\1", match["quoted"][1:-1])
            if each.type is str:
                return each.check(text)
        try:
            return each.read(text)
        except RecipeError as error:
            self.fail(str(error), start)

    def name(self, wanted: str) -> tuple[str, int]:
        word, start = self.peek()
        if not word or word in "+(),=":
            self.fail(f"expected {wanted}, found {repr(word) if word else 'the end'}", start)
        self.take()
        return word, start

    def peek(self) -> tuple[str, int]:
        """The next token ("" at the end) and where it starts."""
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            rest = self.text[self.at :]
            start = self.at + len(rest) - len(rest.lstrip())
            if rest.strip():
                self.fail("the closing quote is missing", start)
            return "", len(self.text.rstrip())
        return match[match.lastgroup or 0], match.start(match.lastgroup or 0)

    def take(self) -> None:
        match = _TOKEN.match(self.text, self.at)
        self.at = match.end() if match else len(self.text)

    def fail(self, message: str, at: int) -> NoReturn:
        """Raises with the recipe below the message and a caret at the place."""
        shown = re.sub(r"\s", " ", self.text)
        raise RecipeError(f"{message} (position {at + 1})\n  {shown}\n  {' ' * at}^") from None


def _list(known: dict[str, Option]) -> str:
    return ", ".join(map(str, known.values())) or "it has none"


__all__ = ["parse", "parse_one", "recipe_of", "recipes_of"]
