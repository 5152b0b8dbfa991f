"""Options of a method as data: read from text, checked, printed back, described in an error.

The annotations and defaults of a method's dataclass are the only place where options are declared.
The recipe parser, `lengthwise methods` and the Python constructors all read them through here.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from lengthwise._utils.budget import Budget
from lengthwise.errors import RecipeError

TYPES = (int, float, bool, str, Budget)
WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
KINDS = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "word",
    Budget: "tokens (2048), bytes (64MB) or a share (25%)",
}
NO_BYTES = "tokens (2048) or a share (25%)"
_BARE = re.compile(r"[^\s,()=+\"\\]+")


@dataclass(frozen=True)
class Needs:
    """When an option does anything: in words (`mode=augmented`), and asked of the method."""

    words: str
    holds: Callable[[Any], object]


def option(
    default: Any,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] | None = None,
    bytes: bool = True,
    needs: Needs | None = None,
) -> Any:
    """A dataclass field that is an option of a recipe: int, float, bool, str or Budget.

    An annotation `X | None` also allows the word `none`.

    Args:
        default: the paper's, or that of its released code.
        help: what it means, in a few words, for pages and errors.
        low: smallest value, itself allowed; None is no bound.
        high: largest value, itself allowed; None is no bound.
        choices: the allowed values; None is any of its type.
        bytes: whether a budget may be given in bytes; False for methods that read less and hold
            everything.
        needs: without which the option does nothing, and is refused where it is given.
    """
    metadata = {
        "help": help, "low": low, "high": high, "choices": choices, "bytes": bytes, "needs": needs,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


# What tensors count with; a greater number is no float either.
MOST = (1 << 63) - 1


@dataclass(frozen=True)
class Option:
    """One option: its type (one of TYPES), default, one line of help and what is allowed."""

    name: str
    type: type
    default: Any
    help: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] | None = None
    optional: bool = False
    bytes: bool = True
    needs: Needs | None = None

    @property
    def allowed(self) -> str:
        """What may be given, in words: `whole number from 1 to 64`."""
        if self.choices is not None:
            words = ", ".join(show(choice) for choice in self.choices)
        else:
            words = KINDS[self.type]
            if self.type is Budget and not self.bytes:
                words = NO_BYTES
            if self.low is not None and self.high is not None:
                words += f" from {self.low:g} to {self.high:g}"
            elif self.low is not None:
                words += f", at least {self.low:g}"
            elif self.high is not None:
                words += f", at most {self.high:g}"
        words += " or none" if self.optional else ""
        return f"{words}; with {self.needs.words}" if self.needs else words

    def refuse_idle(self, method: Any) -> None:
        """Raises RecipeError where this option of `method` was given and does nothing."""
        value = getattr(method, self.name)
        if self.needs and value != self.default and not self.needs.holds(method):
            raise RecipeError(
                f"{self.name}={show(value)} does nothing without {self.needs.words}: give that, "
                f"or leave {self.name} out"
            )

    def __str__(self) -> str:
        return f"{self.name}={show(self.default)} ({self.allowed})"

    def read(self, text: str) -> Any:
        """The value written as `text`; raises RecipeError with what is allowed."""
        if self.optional and text.lower() == "none":
            return None
        try:
            return self.check(self._read(text))
        except RecipeError:
            raise
        except ValueError:
            raise RecipeError(f"{self.name}={text}: allowed is {self.allowed}") from None

    def _read(self, text: str) -> Any:
        if self.type is bool:
            if text.lower() not in WORDS:
                raise ValueError
            return WORDS[text.lower()]
        if self.type is Budget:
            return Budget.parse(text)
        return self.type(text)

    def check(self, value: Any) -> Any:
        """The value as stored (an int will do for a float, a text for a budget)."""
        if value is None and self.optional:
            return None
        if isinstance(value, int) and abs(value) > MOST:
            raise RecipeError(f"{self.name} is beyond {MOST:,}: allowed is {self.allowed}")
        if self.type is Budget and isinstance(value, int | str) and not isinstance(value, bool):
            value = Budget.parse(value)
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        wrong = not isinstance(value, self.type) or (self.type is int and isinstance(value, bool))
        wrong |= isinstance(value, Budget) and not self.bytes and value.unit not in ("tokens", "%")
        if not wrong and isinstance(value, int | float):
            wrong = not math.isfinite(value)
            wrong |= self.low is not None and value < self.low
            wrong |= self.high is not None and value > self.high
        if wrong or (self.choices is not None and value not in self.choices):
            raise RecipeError(f"{self.name}={value}: allowed is {self.allowed}")
        return value


def show(value: Any) -> str:
    """A value as a recipe writes it; `Option.read` gives it back."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, str) and (not _BARE.fullmatch(value) or value.lower() == "none"):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value)


def check_options(given: Any) -> None:
    """Puts the options of a frozen dataclass in the form they are stored in.

    Args:
        given: with a `name`, in its `__post_init__`.

    Raises:
        RecipeError: with the name, and what is allowed.
    """
    own = options(type(given))
    try:
        for each in own:
            object.__setattr__(given, each.name, each.check(getattr(given, each.name)))
        for each in own:
            each.refuse_idle(given)
    except RecipeError as error:
        raise RecipeError(f"{given.name}: {error}") from None


def written(given: Any) -> str:
    """The text that names something and the options of it that differ from their defaults.

    Args:
        given: an instance, with a `name`.
    """
    changed = [
        f"{each.name}={show(getattr(given, each.name))}"
        for each in options(type(given))
        if getattr(given, each.name) != each.default
    ]
    return f"{given.name}({', '.join(changed)})" if changed else str(given.name)


def options(cls: type) -> tuple[Option, ...]:
    """The options of a method's class, in the order of its fields.

    Raises TypeError where a field has a type that no recipe can write.
    """
    return _options(cls)


@cache
def _options(cls: Any) -> tuple[Option, ...]:
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        kind, optional = hints[field.name], False
        if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
            inner = [k for k in typing.get_args(kind) if k is not type(None)]
            kind, optional = inner[0] if len(inner) == 1 else kind, True
        if kind not in TYPES:
            raise TypeError(f"option {field.name!r} has type {kind}; allowed are int, float, bool, "
                            "str, Budget and each of them or None")  # fmt: skip
        if field.default is dataclasses.MISSING:
            raise TypeError(f"option {field.name!r} has no default")
        found.append(Option(field.name, kind, field.default, optional=optional, **field.metadata))
    return tuple(found)


def way_of(name: str, found: object, kinds: tuple[type, ...], what: str) -> type[Any]:
    """A class that an entry point names, checked to be one of a registry's.

    Args:
        name: of the entry point.
        found: what it names.
        kinds: protocols that the class follows.
        what: such a class is called.

    Raises:
        TypeError: for what is none.
        ValueError: for a class of another name.
    """
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise TypeError("it is no dataclass")
    asked = [each for kind in kinds for each in (*kind.__annotations__, *vars(kind))]
    lacks = [each for each in asked if each[0] != "_" and not hasattr(found, each)]
    if lacks:
        raise TypeError(f"its class has no {lacks[0]!r}, which every {what} has")
    if found.name != name:  # type: ignore[attr-defined]
        raise ValueError(f"its class is named {found.name!r}")  # type: ignore[attr-defined]
    options(found)
    return found


__all__ = [
    "KINDS", "NO_BYTES", "TYPES", "WORDS", "Needs", "Option", "check_options", "option", "options",
    "show", "way_of", "written",
]  # fmt: skip
