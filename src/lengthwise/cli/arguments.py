"""What arguments are refused for before any model is loaded and any work is done."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence as Seq
from pathlib import Path
from typing import Any, TypeVar

import click

from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.methods.budget import bytes_in

Command = TypeVar("Command", bound=Callable[..., Any])

# More of anything is a slip of the finger, and no number of C.
MOST = 2**31 - 1


class Whole(click.IntRange):
    """A whole number from `low` on, up to a most that no help needs to show."""

    name = "integer"

    def __init__(self, low: int, most: int = MOST) -> None:
        super().__init__(low)
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = int(super().convert(value, param, ctx))
        if found > self.most:
            self.fail(f"{found} is more than {self.most:,}.", param, ctx)
        return found


COUNT = Whole(1)
WHOLE = Whole(0)
SEED = Whole(-(2**63), 2**64 - 1)
# Of generators that take no sign.
NATURAL = Whole(0, 2**63 - 1)


class Real(click.FloatRange):
    """A number in a range: neither infinite nor NaN, which is below and above nothing."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{found} is no finite number.", param, ctx)
        return found


class Bytes(click.types.StringParamType):
    """A number of bytes: 4000000000, or with a unit, 64MB and 2GiB."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        try:
            return bytes_in(value)
        except RecipeError:
            self.fail(
                f"{value!r} is no number of bytes: give a whole one, such as 4000000000, or a unit "
                "too, such as 64MB or 2GiB.", param, ctx,
            )  # fmt: skip


class Text(click.types.StringParamType):
    """A text that says something: an empty one is a variable of a shell that was not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty; give some text, or leave it out.", param, ctx)
        return super().convert(value, param, ctx)


def refuse_empty(command: click.Command) -> None:
    """Has every text that a command, or one below it, takes be a Text."""
    for param in command.params:
        if param.type is click.STRING:
            param.type = Text()
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        refuse_empty(below)


class Place(click.Path):
    """The path of a file or folder. An empty name, which Python takes for the working folder, is a
    variable of a shell that was not set."""

    def __init__(self, exists: bool = False, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(exists, file_okay, dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value).strip():
            self.fail("the name is empty.", param, ctx)
        return super().convert(value, param, ctx)


class Renamed(click.Option):
    """An option with an old spelling that still works, and which the help does not show."""

    def __init__(self, *arguments: Any, old: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.old = old

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        every = self.opts
        self.opts = [each for each in every if each != self.old]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = every

    def get_error_hint(self, ctx: click.Context | None) -> str:
        return " / ".join(f"'{each}'" for each in self.opts if each != self.old)


def force_option(what: str) -> Callable[[Command], Command]:
    """--force, for a verb that writes a file."""
    return click.option("--force", is_flag=True, help=f"overwrite a file that is no {what} of ours")


def check_text(what: str, text: str) -> None:
    """Refuses text that came in as bytes which are no UTF-8: Python passes those on as lone
    surrogates, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise LengthwiseError(f"{what} is not UTF-8 text (at character {error.start})") from None


def check_texts(what: str, texts: Seq[str]) -> None:
    """Refuses texts of which one says nothing, or is none."""
    for text in texts:
        check_text(what, text)
        if not text.strip():
            raise LengthwiseError(f"{what} is empty; give it some text, or leave it out")


def named_values(option: str, given: Seq[str]) -> dict[str, str]:
    """Values of an option that is written NAME=VALUE and may be repeated."""
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise LengthwiseError(f"{option} {each}: write it as NAME=VALUE")
        if name.strip() in found:
            raise LengthwiseError(f"{option} {name.strip()} is given twice: give it once")
        found[name.strip()] = value.strip()
    return found
