"""Bad values for every option that click knows of, by its type, so that a new option is covered the
day it is added."""

from __future__ import annotations

from collections.abc import Iterator

import click

from lengthwise.cli.arguments import Place, Real, Whole
from lengthwise.cli.main import group
from tests.bad_inputs import FOLDERS, NO_SUCH, POSITIONAL, RIGHT, WRITTEN_TO, Words


def commands(
    command: click.Command = group, path: Words = ()
) -> Iterator[tuple[Words, click.Command]]:
    """Every verb that does something, with the words that call it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from commands(below, (*path, name))


def generated() -> Iterator[Words]:
    """Bad values for every option of every verb, and what is no option or too much."""
    for path, command in commands():
        right = RIGHT[path]
        yield (*path, *right, "--nope")
        for given in POSITIONAL[path]:
            yield (*path, *given, *_options_of(path, command))
        for parameter in command.params:
            if not isinstance(parameter, click.Option):
                continue
            option = max(parameter.opts, key=len)
            if parameter.is_flag:
                yield (*path, *right, f"{option}=x")
                continue
            yield (*path, *right, option)
            for bad in _bad_values(path, parameter, option):
                yield (*path, *right, option, bad)


def _options_of(path: Words, command: click.Command) -> Words:
    """The right command of a verb from its first option on."""
    right = RIGHT[path]
    first = next((n for n, word in enumerate(right) if word.startswith("-")), len(right))
    return right[first:]


def _bad_values(path: Words, parameter: click.Option, option: str) -> Iterator[str]:
    kind = parameter.type
    if isinstance(kind, Place):
        yield ""
        folder = parameter.name in FOLDERS.get(path, ())
        if parameter.name in WRITTEN_TO:
            yield "no/such/folder/x.png"
            yield "doc.txt" if folder else "hollow"
        else:
            yield "no/such"
            yield "doc.txt" if not kind.file_okay else "hollow"
    elif isinstance(kind, (click.IntRange, click.FloatRange)):
        yield from ("", "x", "1e", "--", "1,000", "nan")
        whole = isinstance(kind, click.IntRange)
        yield from ("1.5", "9" * 20, "1e3", "9" * 5000) if whole else ("inf", "-inf", "1e999")
        step = 1 if whole else 0.5
        for edge, beyond in ((kind.min, -step), (kind.max, step)):
            if edge is not None:
                yield str(edge + beyond)
    elif isinstance(kind, click.Choice):
        yield from ("", "x", "\udcff")
    else:
        asked = "C" if "solve" in path else "N"
        values = NO_SUCH.get(f"{' '.join(path)} {option}", NO_SUCH.get(option, ()))
        yield from ("", *(v.replace("X", asked) if option == "--at" else v for v in values))


def numbers_without_range() -> list[str]:
    """Options that take any number at all: the generated cases cannot know what is too much."""
    found = []
    for path, command in commands():
        for parameter in command.params:
            kind = parameter.type
            number = kind in (click.INT, click.FLOAT) or isinstance(
                kind, (click.IntRange, click.FloatRange)
            )
            if number and not isinstance(kind, (Whole, Real)):
                found.append(" ".join((*path, *parameter.opts)))
    return found
